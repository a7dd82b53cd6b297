"""`send_alert` tells people of something at once, without a rule."""

from __future__ import annotations

from collections.abc import Mapping

from configs.monitoring_config import Severity
from configs.settings import load_settings
from models.connect import now
from monitoring import connect
from monitoring.alerting.sinks import SEVERITIES
from monitoring.errors import MonitoringRefused


def send_alert(
    message: str, severity: Severity = "info", labels: Mapping[str, str] | None = None
) -> bool:
    """Tell people through all sinks; False when they were told the same within the last hour.

    It is kept before it is sent: a sink that is down gets it when it is back, with the next pass
    of monitoring or the next alert.

    Parameters
    ----------
    severity
        ``info``, ``warning`` or ``critical``.
    labels
        What the alert is about: alerts with the same labels are the same, whatever their message
        says. Without any, the message decides.

    Raises
    ------
    MonitoringRefused
        If the severity is none.
    """
    if severity not in SEVERITIES:
        raise MonitoringRefused(
            f"There is no severity '{severity}'. Expected one of: {', '.join(SEVERITIES)}."
        )
    return connect.alerts(load_settings()).send(message, severity, now(), labels)

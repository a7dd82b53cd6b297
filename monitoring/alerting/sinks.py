"""Where alerts go: the log, a webhook as Slack has it, mail, Prometheus' Alertmanager.

A sink takes a notice or raises. Each notice carries an id that stays the same when it is sent
again, so that a receiver can tell a repetition after a lost answer from news.
"""

from __future__ import annotations

import logging
import os
import smtplib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

import httpx

from configs.monitoring_config import (
    AlertmanagerSinkConfig,
    EmailSinkConfig,
    LogSinkConfig,
    Severity,
    SinkConfig,
    WebhookSinkConfig,
)
from monitoring.alerting.states import Alert
from monitoring.alerting.store import Notice
from monitoring.errors import SinkRefused

logger = logging.getLogger("fti.alerts")

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}
COLOURS = {"info": "#439FE0", "warning": "#D9742B", "critical": "#B3372F"}
RESOLVED_COLOUR = "#2D7D4F"
ALERTMANAGER_DAYS = 7
"""A firing alert ends by itself after so long, should nobody ever say that it has."""


@dataclass(frozen=True, kw_only=True)
class AlertSink(ABC):
    """Where alerts go.

    Parameters
    ----------
    name
        What its deliveries are kept under.
    min_severity
        Less severe alerts are not for it.
    limit_s
        How long a delivery may take.
    """

    name: str
    min_severity: Severity = "info"
    limit_s: float = 5.0

    @abstractmethod
    def send(self, notice: Notice) -> None:
        """Give a notice away; it has been taken when this returns.

        Raises
        ------
        Exception
            Any, if it was not taken: it is sent again later.
        """


@dataclass(frozen=True)
class LogSink(AlertSink):
    """Writes a line a notice."""

    name: str = field(default="log", kw_only=True)

    def send(self, notice: Notice) -> None:
        """Write it."""
        alert = notice.alert
        level = logging.INFO if alert.state == "resolved" else LEVELS[alert.severity]
        logger.log(level, "%s", headline(alert), extra={"alert": _facts(notice)})


@dataclass(frozen=True)
class WebhookSink(AlertSink):
    """Posts JSON with ``text`` and ``attachments``, as Slack's incoming webhooks take it."""

    url: str = field(repr=False)
    name: str = field(default="webhook", kw_only=True)

    def send(self, notice: Notice) -> None:
        """Post it; any answer but 2xx is a failure."""
        alert = notice.alert
        is_over = alert.state == "resolved"
        fields = {"Owner": alert.owner, "Runbook": alert.runbook, "Since": f"{alert.since:%F %T}"}
        attachment = {
            "color": RESOLVED_COLOUR if is_over else COLOURS[alert.severity],
            "fallback": headline(alert),
            "fields": [
                {"title": title, "value": value, "short": True} for title, value in fields.items()
            ],
        }
        body = {"text": headline(alert), "attachments": [attachment], "alert": _facts(notice)}
        headers = {"Idempotency-Key": _id(notice)}
        _refuse_failure(httpx.post(self.url, json=body, headers=headers, timeout=self.limit_s))


@dataclass(frozen=True)
class EmailSink(AlertSink):
    """Sends a mail by SMTP.

    Parameters
    ----------
    account
        User and password, where the server wants them.
    """

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    starttls: bool = False
    account: tuple[str, str] | None = field(default=None, repr=False)
    name: str = field(default="email", kw_only=True)

    def send(self, notice: Notice) -> None:
        """Send it; a recipient that is refused is a failure."""
        with smtplib.SMTP(self.host, self.port, timeout=self.limit_s) as server:
            if self.starttls:
                server.starttls()
            if self.account is not None:
                server.login(*self.account)
            refused = server.send_message(self._mail(notice))
        if refused:
            raise SinkRefused(f"{self.host} refused {', '.join(refused)}.")

    def _mail(self, notice: Notice) -> EmailMessage:
        alert, mail = notice.alert, EmailMessage()
        mail["Subject"] = " ".join(headline(alert).split())[:200]
        mail["From"], mail["To"] = self.sender, ", ".join(self.recipients)
        mail["Message-ID"] = f"<{_id(notice)}@{self.sender.rpartition('@')[2]}>"
        mail["Date"] = notice.created_at
        mail.set_content("\n".join(f"{name}: {value}" for name, value in _facts(notice).items()))
        return mail


@dataclass(frozen=True)
class AlertmanagerSink(AlertSink):
    """Hands alerts to Alertmanager (API v2), which groups, silences and pages."""

    url: str
    name: str = field(default="alertmanager", kw_only=True)

    def send(self, notice: Notice) -> None:
        """Post it; Alertmanager knows an alert again by its labels."""
        self._post([self._entry(notice.alert, notice.created_at)])

    def remind(self, alerts: Sequence[Alert], now: datetime) -> None:
        """Post all that fires: a restart has forgotten it, and told twice it is one alert."""
        if alerts:
            self._post([self._entry(alert, now) for alert in alerts])

    def _entry(self, alert: Alert, now: datetime) -> dict[str, Any]:
        ends = alert.resolved_at or now + timedelta(days=ALERTMANAGER_DAYS)
        return {
            "labels": {"alertname": alert.name, "severity": alert.severity, "owner": alert.owner}
            | dict(alert.labels),
            "annotations": {"summary": alert.message, "runbook": alert.runbook},
            "startsAt": (alert.fired_at or alert.since).isoformat(),
            "endsAt": ends.isoformat(),
        }

    def _post(self, entries: Sequence[dict[str, Any]]) -> None:
        url = f"{self.url.rstrip('/')}/api/v2/alerts"
        _refuse_failure(httpx.post(url, json=list(entries), timeout=self.limit_s))


def build_sink(
    config: SinkConfig, limit_s: float, environment: Mapping[str, str] = os.environ
) -> AlertSink:
    """Make the sink that the settings describe.

    Raises
    ------
    SinkRefused
        If a variable that they name is not set.
    """
    same: dict[str, Any] = {
        "name": config.name or config.type,
        "min_severity": config.min_severity,
        "limit_s": limit_s,
    }
    if isinstance(config, LogSinkConfig):
        return LogSink(**same)
    if isinstance(config, WebhookSinkConfig):
        return WebhookSink(_secret(config.url_env, environment), **same)
    if isinstance(config, AlertmanagerSinkConfig):
        return AlertmanagerSink(config.url, **same)
    assert isinstance(config, EmailSinkConfig)
    account = None
    if config.user_env is not None and config.password_env is not None:
        account = _secret(config.user_env, environment), _secret(config.password_env, environment)
    return EmailSink(
        config.host, config.port, config.sender, config.recipients, config.starttls, account, **same
    )


def wants(sink: AlertSink, alert: Alert) -> bool:
    """Whether an alert is severe enough for a sink."""
    return SEVERITIES.index(alert.severity) >= SEVERITIES.index(sink.min_severity)


def headline(alert: Alert) -> str:
    """One line that says everything that matters first."""
    word = "RESOLVED" if alert.state == "resolved" else alert.severity.upper()
    return f"[{word}] {alert.key}: {alert.message}"


def _facts(notice: Notice) -> dict[str, Any]:
    alert = notice.alert
    return {
        "id": _id(notice),
        "name": alert.name,
        "labels": dict(alert.labels),
        "state": alert.state,
        "severity": alert.severity,
        "message": alert.message,
        "value": alert.value,
        "threshold": alert.threshold,
        "owner": alert.owner,
        "runbook": alert.runbook,
        "since": _text(alert.since),
        "fired_at": _text(alert.fired_at),
        "resolved_at": _text(alert.resolved_at),
    }


def _id(notice: Notice) -> str:
    return f"fti-alert-{notice.notice_id}-{notice.created_at:%Y%m%d%H%M%S%f}"


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _refuse_failure(answer: httpx.Response) -> None:
    if not answer.is_success:
        said = " ".join(answer.text.split())[:200]
        raise SinkRefused(f"It answered {answer.status_code}: {said}")


def _secret(name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name)
    if not value:
        raise SinkRefused(
            f"The variable {name} is not set; 'monitoring.alerts.sinks' says that it holds what a "
            "sink needs. Set it, or take the sink out."
        )
    return value

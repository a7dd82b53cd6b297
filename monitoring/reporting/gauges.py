"""What Prometheus sees of monitoring: one gauge a metric, of the newest pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric

from monitoring.alerting.states import Alert, Sample

PREFIX = "fti_monitoring_"


class Gauges:
    """Collects what the newest pass found."""

    def __init__(self) -> None:
        self._families: Sequence[Metric] = ()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def show(
        self,
        samples: Sequence[Sample],
        alerts: Sequence[Alert],
        waiting: Mapping[str, int],
        as_of: datetime,
        seconds: float,
    ) -> None:
        """Show one pass in place of the one before.

        Parameters
        ----------
        waiting
            Sink to the notices that it has not taken yet.
        """
        fixed = [
            Sample("last_pass_timestamp_seconds", as_of.timestamp()),
            Sample("pass_seconds", seconds),
            *(Sample("notices_waiting", n, {"sink": sink}) for sink, n in waiting.items()),
            *(
                Sample("alert_firing", 1, {"alert": each.name, "severity": each.severity})
                for each in alerts
            ),
        ]
        self._families = list(_families([*samples, *fixed]))

    def collect(self) -> Sequence[Metric]:
        """Give all gauges, as the client library asks for them."""
        return self._families

    def write(self, path: Path) -> None:
        """Write them as a file, for node-exporter's textfile collector."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), self.registry)

    def serve(self, port: int) -> int:
        """Serve them under ``/metrics`` from a thread; give the port."""
        server, _ = start_http_server(port, registry=self.registry)
        return int(server.server_port)


def _families(samples: Sequence[Sample]) -> Iterator[Metric]:
    by_metric: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_metric[sample.metric].append(sample)
    for metric, values in sorted(by_metric.items()):
        names = sorted({name for sample in values for name in sample.labels})
        family = GaugeMetricFamily(
            f"{PREFIX}{metric}", f"{metric.replace('_', ' ').capitalize()}.", labels=names
        )
        for sample in values:
            family.add_metric([sample.labels.get(name, "") for name in names], sample.value)
        yield family

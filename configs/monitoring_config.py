"""The settings of monitoring: ``configs/monitoring_config.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import Section, Share

Severity = Literal["info", "warning", "critical"]
Comparator = Literal["<", "<=", ">", ">="]


class PredictionLogConfig(Section):
    """The local segment files and how often they are shipped to PostgreSQL."""

    segment_bytes: int = Field(16 * 1024 * 1024, ge=4096)
    ship_interval_ms: float = Field(500, gt=0)


class DriftConfig(Section):
    """When a feature, the scores or the labels have moved so far that it matters."""

    window_hours: float = Field(24, gt=0, description="of predictions that are compared")
    min_rows: int = Field(200, ge=2, description="fewer predictions say nothing about drift")
    psi: float = Field(0.1, gt=0, description="population stability index of a feature")
    missing_share: Share = Field(0.05, description="by which missing values changed")
    unseen_share: Share = Field(0.01, description="of words that the model has never seen")
    label_share: Share = Field(0.08, description="by which the share of 1s among labels changed")
    false_discovery_rate: float = Field(
        0.01, gt=0, lt=1, description="of the features that are named; Benjamini-Hochberg"
    )
    harmful_share: Share = Field(
        0.15, description="drifted features, weighted by importance, that harm with moved scores"
    )
    of: Literal["stored", "all"] = Field(
        "stored", description="predictions from stored features, or those of request attributes too"
    )
    full_report: Literal["on_drift", "always", "never"] = Field(
        "on_drift", description="when Evidently's full report is made"
    )
    full_report_rows: int = Field(5_000, ge=100, description="most rows of each side in it")
    full_report_pause_hours: float = Field(6, ge=0, description="between two of them, on drift")


class PerformanceConfig(Section):
    """What is asked of predictions once their labels are known."""

    window_days: float = Field(7, gt=0)
    maturity_hours: float = Field(
        0, ge=0, description="labels count when their prediction is so old; 0: as they arrive"
    )
    label_within_days: float = Field(
        30, gt=0, description="a label of a user answers a prediction at most so much older"
    )
    min_labels: int = Field(100, ge=1, description="fewer labels raise no alert")
    min_accuracy: Share = Field(0.80, description="below it `monitor_performance` alerts")
    slices: tuple[str, ...] = Field((), description="categories whose words are judged apart")
    smallest_slice: int = Field(50, ge=10)


class SkewConfig(Section):
    """Which logged vectors are computed again from the offline store."""

    window_hours: float = Field(24, gt=0)
    max_rows: int = Field(20_000, ge=1, description="the newest of the window")


class ContractConfig(Section):
    """What data must hold; what is left out is not asked for."""

    min_rows: int | None = Field(None, ge=0, description="predictions in the window")
    max_rows: int | None = Field(None, ge=0)
    max_missing_share: dict[str, Share] = Field(
        {}, description="feature to the share of its values that may be missing; * for all others"
    )
    max_unseen_share: dict[str, Share] = Field({}, description="likewise, of unseen words")
    max_out_of_range_share: Share | None = Field(
        None, description="of values outside the range that a feature is declared with"
    )
    max_duplicate_share: Share | None = Field(
        None,
        description="of predictions about the same user with the same vector within a second",
    )


class QualityConfig(Section):
    """Contracts of the predictions, and how fresh the stores must be."""

    window_hours: float = Field(24, gt=0)
    predictions: ContractConfig = ContractConfig()
    max_age_hours: dict[str, float] = Field(
        {}, description="view to the age of its newest row, by the time the store learned it"
    )
    max_event_age_hours: dict[str, float] = Field(
        {}, description="view to the age of the newest event that it knows"
    )
    max_pipeline_lag_hours: float | None = Field(
        None, gt=0, description="since a run of the feature pipeline moved a watermark"
    )
    max_stream_backlog: int | None = Field(None, ge=0, description="events that wait")
    max_stream_delay_ms: float | None = Field(None, gt=0, description="of any living consumer")
    max_shipping_lag_s: float | None = Field(
        None, gt=0, description="age of receipts that have not reached PostgreSQL"
    )


class RuleConfig(Section):
    """When somebody is told, and who."""

    name: str = Field(pattern="^[a-z][a-z0-9_-]*$")
    metric: str = Field(min_length=1)
    labels: dict[str, str] = Field({}, description="only values of the metric with these labels")
    comparator: Comparator
    threshold: float
    window_minutes: float = Field(0, ge=0, description="0: the newest value")
    aggregate: Literal["mean", "min", "max"] = Field("mean", description="over the window")
    for_minutes: float = Field(0, ge=0, description="how long it must hold before it fires")
    severity: Severity = "warning"
    owner: str = Field(min_length=1)
    runbook: str = Field(min_length=1, description="where it says what to do")
    summary: str = Field("", description="for people")
    cooldown_minutes: float = Field(60, ge=0, description="no second notice of it so soon")
    retrain: bool = Field(False, description="while it fires a retraining is asked for")


class _SinkConfig(Section):
    name: str | None = Field(None, pattern="^[a-z][a-z0-9_-]*$", description="None: its type")
    min_severity: Severity = "info"


class LogSinkConfig(_SinkConfig):
    """Alerts as lines of the log."""

    type: Literal["log"] = "log"


class WebhookSinkConfig(_SinkConfig):
    """Alerts posted as JSON with ``text``, as Slack and those compatible with it take them."""

    type: Literal["webhook"]
    url_env: str = Field(description="the variable that holds the URL")


class EmailSinkConfig(_SinkConfig):
    """Alerts by mail."""

    type: Literal["email"]
    host: str = "localhost"
    port: int = Field(25, ge=1, le=65_535)
    sender: str = Field(pattern=r"^\S+@\S+$")
    recipients: tuple[str, ...] = Field(min_length=1)
    starttls: bool = False
    user_env: str | None = Field(None, description="the variables that hold the account")
    password_env: str | None = None


class AlertmanagerSinkConfig(_SinkConfig):
    """Alerts to Prometheus' Alertmanager, which groups, silences and pages."""

    type: Literal["alertmanager"]
    url: str = Field(pattern="^https?://")


SinkConfig = Annotated[
    LogSinkConfig | WebhookSinkConfig | EmailSinkConfig | AlertmanagerSinkConfig,
    Field(discriminator="type"),
]


class AlertsConfig(Section):
    """Rules, and where alerts go."""

    rules: tuple[RuleConfig, ...] = ()
    sinks: tuple[SinkConfig, ...] = (LogSinkConfig(),)
    send_limit_s: float = Field(5, gt=0, description="longest wait for a sink")
    retry_s: float = Field(10, gt=0, description="until a sink is tried again; doubles each time")
    max_retry_s: float = Field(600, gt=0)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for rule in self.rules]
        sinks = [sink.name or sink.type for sink in self.sinks]
        for found in (names, sinks):
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice:
                raise ValueError(f"names must differ; {twice[0]} is there twice")
        return self


class RetrainingConfig(Section):
    """When a model is trained anew, and on what."""

    enabled: bool = True
    cooldown_hours: float = Field(24, ge=0, description="after the request before")
    weekly_budget: int = Field(3, ge=1, description="requests in seven days")
    window_days: float | None = Field(
        None, gt=0, description="of labels to learn from; None: from 'training.start' on"
    )
    challenger_share: float = Field(0.5, gt=0, lt=1, description="of traffic, in its experiment")


class IncidentConfig(Section):
    """Something that happens to the simulated world, from a day on and before another."""

    kind: Literal[
        "covariate_shift",
        "concept_drift",
        "lost_column",
        "new_category",
        "duplicates",
        "outage",
        "slow_labels",
    ]
    start_day: int = Field(0, ge=0)
    end_day: int | None = Field(None, ge=0, description="None: it stays")
    column: str | None = Field(None, description="the raw column that it is about")
    words: tuple[str, ...] = Field((), description="of a category: those whose labels turn over")
    strength: float = Field(
        1.0,
        description="share of the visits, or of the labels; of a shift, per standard deviation; "
        "of slow labels, how many times slower",
    )

    @model_validator(mode="after")
    def _names_its_column(self) -> Self:
        needs = ("covariate_shift", "concept_drift", "lost_column", "new_category")
        if self.kind in needs and self.column is None:
            raise ValueError(f"a {self.kind} needs 'column', the raw column that it is about")
        return self


class SimulationConfig(Section):
    """A world of visitors in event time: `python -m monitoring simulate`."""

    seed: int = Field(7, ge=0)
    days: int = Field(30, ge=1)
    visits_a_day: int = Field(1_000, ge=1)
    label_delay_hours: float = Field(6, ge=0, description="median time until a label is known")
    ones_slower: float = Field(1.5, gt=0, description="times, for labels of 1")
    incidents: tuple[IncidentConfig, ...] = ()


class MonitoringConfig(Section):
    """``configs/monitoring_config.yaml``."""

    prediction_log: PredictionLogConfig = PredictionLogConfig()
    drift: DriftConfig = DriftConfig()
    performance: PerformanceConfig = PerformanceConfig()
    skew: SkewConfig = SkewConfig()
    quality: QualityConfig = QualityConfig()
    alerts: AlertsConfig = AlertsConfig()
    retraining: RetrainingConfig = RetrainingConfig()
    simulation: SimulationConfig = SimulationConfig()
    keep_days: float = Field(90, ge=1, description="of results; one an hour beyond the last day")
    metrics_port: int = Field(9108, ge=0, le=65_535, description="of the gauges; 0: a free one")

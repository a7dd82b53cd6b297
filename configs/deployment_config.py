"""The settings of deployment: ``configs/deployment_config.yaml``.

Of A/B tests, who gets the challenger and what decides; of the API, where it listens, whom it lets
in, and what it does under load.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from configs.errors import did_you_mean
from configs.http_config import HttpConfig
from configs.section import Section

KEY_PREFIX = "fti_"
"""What API keys begin with, so that one written where it does not belong is seen and hidden."""
MOST_WORKERS = 64
DAY_S = 86_400.0
Port = Annotated[int, Field(ge=1, le=65535)]
Level = Annotated[float, Field(gt=0, lt=0.5)]
Margin = Annotated[float, Field(ge=0)]


class ABTestConfig(Section):
    """What a test that begins is given; one that runs keeps what it was given."""

    challenger_share: float = Field(0.10, gt=0, lt=1)
    salt: str = Field("income", description="another one divides the same users differently")
    label_influence: bool = Field(
        True, description="an answer may change its own label: compare by traffic alone"
    )
    label_horizon_s: float = Field(
        DAY_S, ge=0, description="age at which a prediction is judged by the label known then"
    )
    metric: Literal["brier", "zero_one", "cost", "log_loss"] = Field(
        "brier", description="the loss of a prediction"
    )
    objective: Literal["superiority", "non_inferiority"] = Field(
        "superiority", description="what promotes: better, or worse by less than the margin"
    )
    margin: Margin = Field(0.002, description="of non-inferiority, in the metric's unit")
    alpha: Level = Field(0.05, description="chance of a false decision by the metric")
    guardrail_alpha: Level = Field(0.05, description="divided among all guardrails and slices")
    ratio_alpha: Level = Field(0.01, description="chance of a false alarm by the sample ratio")
    minimum_run_s: float = Field(DAY_S, ge=0, description="nothing is promoted before")
    minimum_events: int = Field(
        50, ge=1, description="in a split: losses of each arm that differ from the others"
    )
    ramp: tuple[float, ...] = Field(
        (0.01, 0.05, 0.10, 0.25, 0.50), description="the shares of a ramp, if one is asked for"
    )
    ramp_step_s: float = Field(DAY_S, ge=0, description="so long a share stays before the next")
    latency_budget_ms: float = Field(50, gt=0, description="answers that take longer are counted")
    over_budget_margin: Margin = Field(0.01, description="more of them than the champion has")
    error_margin: Margin = Field(0.002, description="more requests that the model cannot answer")
    degraded_margin: Margin = Field(0.01, description="more degraded answers")
    calibration_margin: Margin = Field(0.02, description="further from the share of label 1")
    slices: tuple[str, ...] = Field((), description="categories; each of their words is a slice")
    slice_margin: Margin = Field(0.01, description="worse than the champion, in the metric")
    slice_minimum: int = Field(200, ge=2, description="units that give a slice its veto")

    @model_validator(mode="after")
    def _ramp_climbs(self) -> Self:
        if any(not 0 < share < 1 for share in self.ramp):
            raise ValueError("the shares of a ramp lie between 0 and 1")
        if any(later <= earlier for earlier, later in pairwise(self.ramp)):
            raise ValueError("each share of a ramp must be larger than the one before")
        return self


Permission = Literal[
    "predict", "explain", "feedback", "read_features", "read_predictions", "operate"
]
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)
ROLES: Mapping[str, tuple[Permission, ...]] = {
    "predict": ("predict", "explain", "feedback"),
    "feedback": ("feedback",),
    "read": ("explain", "read_features", "read_predictions"),
    "operate": ("operate",),
    "admin": PERMISSIONS,
}
"""What the roles may do that are there without being defined."""


class KeyConfig(Section):
    """One API key: whose it is, what it may do, and its hash; the key itself stands nowhere."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="of its holder, for the log")
    role: str = Field(description="one of `roles`")
    key_sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="as `python -m serving new-key` prints it"
    )


class RateLimitConfig(Section):
    """How much each key, or each client address where there are no keys, may ask."""

    per_second: float | None = Field(None, gt=0, description="in the long run; none for no limit")
    burst: int = Field(100, ge=1, description="at once, after a time of silence")


class AccessLogConfig(Section):
    """Which requests get a line in the log."""

    requests: Literal["failed", "all"] = Field(
        "failed", description="failed: 5xx and those that took longer than `slow_ms`"
    )
    slow_ms: float = Field(250, gt=0)


class AtOnceConfig(Section):
    """What a worker does in threads beside single predictions: each kind in its own."""

    wait_s: float = Field(
        5, gt=0, description="longest wait of a request for its turn; then it is told to come again"
    )
    batches: int = Field(4, ge=1, le=64, description="requests to /predict/batch")
    batch_rows: int = Field(
        20_000,
        ge=1,
        description="rows of all batches that are being answered",
    )
    reports: int = Field(4, ge=1, le=64, description="requests to /feedback")
    explanations: int = Field(2, ge=1, le=64)
    lookups: int = Field(2, ge=1, le=64, description="receipts that are looked for, and replays")


class ApiConfig(Section):
    """Where the API listens and how it answers."""

    host: str = "127.0.0.1"
    port: Port = 8000
    workers: int = Field(
        1, ge=1, le=MOST_WORKERS, description="processes that answer; one a core at most helps"
    )
    deployment_poll_ms: float = Field(
        250, gt=0, description="how soon the host's agent notices a new deployment"
    )
    current_poll_ms: float = Field(
        100, gt=0, description="how soon a worker notices that one has been staged"
    )
    batch_rows: int = Field(
        32, ge=1, le=1024, description="most requests that are answered together; 1 for each alone"
    )
    awake_us: float = Field(
        150,
        ge=0,
        description="how long the event loop keeps awake for the reply to a lone read, and for a "
        "caller who asks again at once: quicker than to be woken up; 0 saves processor time",
    )
    remembered_users: int = Field(
        10_000, ge=0, description="last features kept for the time that Redis does not answer"
    )
    max_in_flight: int = Field(
        512, ge=1, description="requests that a worker answers at once; more are refused with 503"
    )
    request_limit_s: float = Field(
        30, gt=0, description="longest time of a request, reading its body included"
    )
    at_once: AtOnceConfig = AtOnceConfig()
    keys: tuple[KeyConfig, ...] = Field((), description="none: everybody may ask everything")
    roles: Mapping[str, tuple[Permission, ...]] = Field(
        {}, description="role to its permissions, beside or in place of the roles that are there"
    )
    feedback_outranks_sources: bool = Field(
        False, description="whether a label of /feedback may replace a source's of the same event"
    )
    rate_limit: RateLimitConfig = RateLimitConfig()
    cors_origins: tuple[str, ...] = Field(
        (), description="pages of these origins (https://app.example) may ask from a browser"
    )
    access_log: AccessLogConfig = AccessLogConfig()
    http: HttpConfig = HttpConfig()

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        for values in ([key.name for key in self.keys], [key.key_sha256 for key in self.keys]):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"keys must differ; {twice[0]} is there twice")
        return self

    @model_validator(mode="after")
    def _roles_are_known(self) -> Self:
        known = self.permissions
        for key in self.keys:
            if key.role not in known:
                raise ValueError(
                    f"the key '{key.name}' has the role '{key.role}'. "
                    f"{did_you_mean(key.role, list(known))}Known: {', '.join(known)}"
                )
        return self

    @property
    def permissions(self) -> dict[str, tuple[Permission, ...]]:
        """What each role may do."""
        return {**ROLES, **self.roles}


class DeploymentConfig(Section):
    """``configs/deployment_config.yaml``."""

    prediction_texts: tuple[str, str] = ("0", "1")
    artifact_mirror: str | None = Field(
        None,
        min_length=1,
        description="a folder, or s3://bucket/prefix (gs://, az://), that deployments fill with "
        "their models' artifacts: a new host starts from it while MLflow is down",
    )
    api: ApiConfig = ApiConfig()
    ab_test: ABTestConfig = ABTestConfig()
    registry_poll_ms: float = Field(
        1000, gt=0, description="how soon a change by an MLflow client is answered"
    )

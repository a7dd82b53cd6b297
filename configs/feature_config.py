"""The settings of features: ``configs/feature_config.yaml``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from pydantic import Field, model_validator

from configs.section import Section, Share, UtcTime
from configs.sources import SourceConfig, VariableName

REDIS = "redis"
"""Where events come from unless another origin is named."""
SECRET_OPTIONS = ("password", "secret", "oauthbearer.config", "key.pem")


class EventTimeConfig(Section):
    """The half-open range over which ingest spreads rows that come without a clock."""

    start: UtcTime
    end: UtcTime

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class OnlineConfig(Section):
    """Deadlines and sizes of the online store."""

    read_deadline_ms: float = Field(50, gt=0)
    write_deadline_ms: float = Field(5000, gt=0, description="for one batch of rows")
    write_batch_rows: int = Field(500, ge=1, le=5000)


class KafkaConfig(Section):
    """How consumers and producers speak with Kafka."""

    group: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,200}$", description="None: {project}-features"
    )
    options: dict[str, str | int | float | bool] = Field(
        {}, description="options of librdkafka, such as security.protocol"
    )
    options_env: dict[str, VariableName] = Field(
        {}, description="option -> the variable that holds it: sasl.password, ssl.key.password"
    )

    @model_validator(mode="after")
    def _secrets_stand_in_variables(self) -> Self:
        for name in self.options:
            if name.endswith(SECRET_OPTIONS):
                raise ValueError(
                    f"'{name}' is a secret: name the variable that holds it in 'options_env'"
                )
        return self


class StreamConfig(Section):
    """Sizes, times and limits of the stream of events and of its consumers."""

    @model_validator(mode="before")
    @classmethod
    def _one_rule_for_all(cls, values: Any) -> Any:
        if isinstance(values, dict) and "max_ahead_minutes" in values:
            raise ValueError(
                "'max_ahead_minutes' holds for every way in: it stands beside 'stream', not in it"
            )
        return values

    origin: str = Field(
        REDIS,
        pattern=r"^(redis|kafka://[^/?#@\s]+/[A-Za-z0-9._-]{1,249})$",
        description="redis, or kafka://broker1:9092,broker2:9092/topic",
    )
    kafka: KafkaConfig = KafkaConfig()
    batch_rows: int = Field(2000, ge=1, le=20_000, description="most events applied together")
    block_ms: int = Field(250, ge=1, le=2000, description="longest wait for new events")
    claim_idle_ms: int = Field(
        30_000, ge=100, description="what a consumer has not looked after so long, others take"
    )
    max_tries: int = Field(3, ge=1, description="of an event that fails, alone")
    max_held_back: int = Field(100_000, ge=1, description="events kept until their time has come")
    max_backlog: int = Field(200_000, ge=1, description="with more events `append` waits")
    append_deadline_ms: float = Field(10_000, gt=0, description="longest wait of `append`")
    max_dead_letters: int = Field(100_000, ge=1, description="about; the oldest go first")
    report_s: float = Field(5, gt=0, le=20, description="between two lines of progress")


class FeatureConfig(Section):
    """``configs/feature_config.yaml``."""

    project: str = Field("fti", pattern="^[a-z][a-z0-9_]*$")
    ttl_days: float | None = Field(None, gt=0)
    max_bad_share: Share = 0.01
    tolerated_bad_rows: int = Field(
        10, ge=0, description="an increment with no more than these goes on, whatever their share"
    )
    max_ahead_minutes: float = Field(
        5, ge=0, description="an event ahead of now waits for its time; further ahead it is refused"
    )
    source: SourceConfig
    event_time: EventTimeConfig
    online: OnlineConfig = OnlineConfig()
    stream: StreamConfig = StreamConfig()

    @property
    def max_ahead(self) -> timedelta:
        """How far ahead of now an event may lie."""
        return timedelta(minutes=self.max_ahead_minutes)

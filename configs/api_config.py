"""The settings of the API: where it listens, whom it lets in, what it does under load."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import Section

KEY_PREFIX = "fti_"
"""What API keys begin with, so that one written where it does not belong is seen and hidden."""
MOST_WORKERS = 64
Port = Annotated[int, Field(ge=1, le=65535)]


class KeyConfig(Section):
    """One API key: whose it is, what it may do, and its hash; the key itself stands nowhere."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="of its holder, for the log")
    role: Literal["predict", "admin"]
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
    keys: tuple[KeyConfig, ...] = Field((), description="none: everybody may ask everything")
    rate_limit: RateLimitConfig = RateLimitConfig()
    cors_origins: tuple[str, ...] = Field(
        (), description="pages of these origins (https://app.example) may ask from a browser"
    )
    access_log: AccessLogConfig = AccessLogConfig()

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        for values in ([key.name for key in self.keys], [key.key_sha256 for key in self.keys]):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"keys must differ; {twice[0]} is there twice")
        return self

"""The settings of the API: where it listens, and what it does under load and failure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from configs.section import Section

Port = Annotated[int, Field(ge=1, le=65535)]


class ApiConfig(Section):
    """Where the API listens and how it answers."""

    host: str = "127.0.0.1"
    port: Port = 8000
    deployment_poll_ms: float = Field(
        250, gt=0, description="how soon the host's agent notices a new deployment"
    )
    current_poll_ms: float = Field(
        100, gt=0, description="how soon a worker notices that one has been staged"
    )
    remembered_users: int = Field(
        10_000, ge=0, description="last features kept for the time that Redis does not answer"
    )

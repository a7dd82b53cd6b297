"""What every part of the settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Part of the settings: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

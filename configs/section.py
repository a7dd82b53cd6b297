"""What every section of the settings is made of: a strict base, times and shares."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from configs.errors import SettingsError


class Section(BaseModel):
    """Part of the settings: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def utc_time(value: datetime | date | str) -> datetime:
    """Read a date or time as UTC unless it says otherwise: every time in the system is aware.

    Raises
    ------
    SettingsError
        If the text is not an ISO 8601 date or time.

    Examples
    --------
    >>> utc_time("2020-01-01").isoformat()
    '2020-01-01T00:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise SettingsError(
            f"'{value}' is not a date; write it as 2020-01-31 or 2020-01-31T12:00:00+00:00."
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _utc_or_invalid(value: datetime | date | str) -> datetime:
    try:
        return utc_time(value)
    except SettingsError as error:
        raise ValueError(str(error)) from error


UtcTime = Annotated[datetime, BeforeValidator(_utc_or_invalid)]
Share = Annotated[float, Field(ge=0, le=1)]

"""What a report of labels may look like, and the records that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from feature_store.online.row_codec import EPOCH
from monitoring.log.labels import LabelRecord
from monitoring.log.record import time_us_of
from serving.routes.request_schema import LARGEST_KEY
from serving.routes.route_documents import EXAMPLE_ID

MOST_LABELS = 10_000
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
CLOCKS_DIFFER = timedelta(minutes=5)
"""A label may seem to tell of so far in the future, and no further."""
MICROSECOND = timedelta(microseconds=1)


def _prediction_id(text: str) -> str:
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or value.version != 7:
        raise ValueError("expected the prediction_id of an answer, a UUID of version 7")
    return str(value)


def _time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-01-31T12:00:00Z")
    try:
        time = time.astimezone(UTC)
    except OverflowError:
        time = EARLIEST - MICROSECOND
    if time < EARLIEST:
        raise ValueError(f"expected a time from {EARLIEST:%Y-%m-%d} on")
    return time.isoformat()


class Label(BaseModel):
    """What came true: of a prediction, or of a user at a time."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_by_name=True, validate_by_alias=True
    )

    prediction_id: Annotated[
        Annotated[str, AfterValidator(_prediction_id)] | None,
        Field(
            description="Of which prediction; one whose receipt is still on its way counts too.",
            examples=[EXAMPLE_ID],
            json_schema_extra={"format": "uuid"},
        ),
    ] = None
    label_time: Annotated[
        Annotated[str, AfterValidator(_time)] | None,
        Field(
            description="The time of which the label tells: required with a user; with a "
            "prediction it is the prediction's own unless another is given.",
            examples=["2026-01-31T12:00:00Z"],
            json_schema_extra={"format": "date-time"},
        ),
    ] = None


def feedback_schema(entity: str, texts: tuple[str, str]) -> type[BaseModel]:
    """Make the schema of a report.

    Parameters
    ----------
    entity
        What the key of a user is called.
    texts
        What predictions say for class 0 and class 1; a label may say it too.
    """
    user = Field(ge=1, le=LARGEST_KEY, description="Of which user.", examples=[12345])
    value = Field(
        description=f"0 or '{texts[0]}', 1 or '{texts[1]}'.",
        examples=[1],
        json_schema_extra={"enum": [0, 1, *texts]},
    )
    fields: dict[str, Any] = {
        entity: (Annotated[int | None, user], None),
        "label": (Annotated[int | str, AfterValidator(_reading(texts)), value], ...),
    }
    checks: dict[str, Any] = {"names_one": model_validator(mode="after")(_names_one(entity))}
    row = create_model("Label", __base__=Label, __validators__=checks, **fields)
    rows = Annotated[list[row], Field(min_length=1, max_length=MOST_LABELS)]
    return create_model("Feedback", labels=(rows, ...))


def _reading(texts: tuple[str, str]) -> Callable[[int | str], int]:
    meaning: dict[int | str, int] = {texts[0]: 0, texts[1]: 1, 0: 0, 1: 1}

    def read(label: int | str) -> int:
        if label not in meaning:
            raise ValueError(f"expected 0, 1, '{texts[0]}' or '{texts[1]}'")
        return meaning[label]

    return read


def _names_one(entity: str) -> Callable[[Any], Any]:
    def check(label: Any) -> Any:
        user = getattr(label, entity)
        if (user is None) == (label.prediction_id is None):
            raise ValueError(f"expected either 'prediction_id', or '{entity}' and 'label_time'")
        if user is not None and label.label_time is None:
            raise ValueError(f"expected 'label_time' with '{entity}': when it was so")
        return label

    return check


def too_early(labels: Sequence[Any], now: datetime) -> list[dict[str, Any]]:
    """List what is wrong with labels that tell of the future, as pydantic lists errors."""
    latest = now + CLOCKS_DIFFER
    return [
        {
            "type": "value_error",
            "loc": ("labels", place, "label_time"),
            "msg": f"expected a time that has come; it is {now.isoformat(timespec='seconds')}",
            "input": label.label_time,
        }
        for place, label in enumerate(labels)
        if label.label_time is not None and datetime.fromisoformat(label.label_time) > latest
    ]


def to_records(labels: Sequence[Any], entity: str, now: datetime) -> list[LabelRecord]:
    """Turn valid labels into records."""
    received_at_us = (now - EPOCH) // MICROSECOND
    return [_record(label, getattr(label, entity), received_at_us) for label in labels]


def _record(label: Any, user_id: int | None, received_at_us: int) -> LabelRecord:
    prediction_id = UUID(label.prediction_id).bytes if label.prediction_id else None
    if label.label_time is not None:
        label_time_us = (datetime.fromisoformat(label.label_time) - EPOCH) // MICROSECOND
    else:
        assert prediction_id is not None
        label_time_us = time_us_of(prediction_id)
    return LabelRecord(prediction_id, user_id, label.label, label_time_us, received_at_us)

"""``POST /feedback``: labels, kept in the prediction log before they are acknowledged."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from feature_store.definitions.cleaning import strip
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.online.row_codec import microseconds_of
from infrastructure.work import WorkPool
from monitoring.log.labels import KIND_LABEL, OF_A_SOURCE, REPORTED, LabelRecord
from monitoring.log.record import time_us_of
from monitoring.log.writer import SharedLog
from serving.answers import json_response
from serving.bodies.clean_body import CleanBody
from serving.bodies.key_fields import example_of, key_fields, read_key
from serving.middleware.access import current_caller
from serving.routes.bulk_route import add_bulk_path, refuse_rows
from serving.routes.route_documents import EXAMPLE_ID, ID_PATTERN, answers

ACCEPTED = 202
MOST_LABELS = 10_000
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
CLOCKS_DIFFER = timedelta(minutes=5)
"""A label may seem to tell of so far in the future, and no further."""


class Accepted(BaseModel):
    """How many labels are kept."""

    accepted: int


def add_feedback(
    app: FastAPI,
    view: FeatureView,
    log: SharedLog,
    texts: tuple[str, str],
    clock: Callable[[], datetime],
    pool: WorkPool,
    outranks_sources: bool = False,
) -> None:
    """Add the path.

    Parameters
    ----------
    view
        Whose entity labels are about.
    log
        Takes the labels, from any thread.
    texts
        What predictions say for class 0 and class 1.
    clock
        Gives the present time in UTC.
    pool
        Where reports are taken in.
    outranks_sources
        Whether a reported label may replace a source's of the same event.
    """
    entity, authority = view.key, OF_A_SOURCE if outranks_sources else REPORTED
    body_schema = feedback_schema(entity, texts)

    def give_feedback(body: body_schema) -> Response:  # type: ignore[valid-type]
        """Report labels, of predictions or of users at a time: one, or up to 10,000.

        They survive this process when they are acknowledged, and reach the table `labels` within
        a second. The same label again changes nothing; another one for the same is a correction,
        which counts from then on; what a source says of the same event counts before both. Labels
        may be late by any time. When one of them cannot be used, none is kept.
        """
        now = clock()
        labels = body.labels  # type: ignore[attr-defined]
        problems = too_early(labels, now)
        if problems:
            return refuse_rows(problems, [])
        records = to_records(labels, entity, now, authority, current_caller.get().name)
        log.append([record.pack() for record in records], KIND_LABEL)
        return json_response({"accepted": len(records)}, ACCEPTED)

    add_bulk_path(
        app,
        "/feedback",
        give_feedback,
        pool,
        response_model=Accepted,
        status_code=ACCEPTED,
        responses=answers(
            {"accepted": 2},
            status=ACCEPTED,
            _413="",
            _422=f"labels.0.label is 2: expected 0, 1, '{texts[0]}' or '{texts[1]}'",
            _503="The prediction log cannot be written: No space left on device.",
        ),
        openapi_extra=_examples(entity, texts),
    )


def _examples(entity: Entity, texts: tuple[str, str]) -> dict[str, object]:
    of_prediction = {"prediction_id": EXAMPLE_ID, "label": 1}
    of_user = {**example_of(entity), "label_time": "2026-01-31T12:00:00Z", "label": texts[0]}
    examples = {
        "one": {"summary": "of a prediction", "value": of_prediction},
        "many": {"summary": "several at once", "value": {"labels": [of_prediction, of_user]}},
    }
    return {"requestBody": {"content": {"application/json": {"examples": examples}}}}


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
        time = EARLIEST - timedelta(microseconds=1)
    if time < EARLIEST:
        raise ValueError(f"expected a time from {EARLIEST:%Y-%m-%d} on")
    return time.isoformat()


def _document(extra: dict[str, Any]) -> Any:
    return Field(json_schema_extra=extra)


class Label(CleanBody):
    """What came true: of a prediction, or of a user at a time."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prediction_id: Annotated[
        Annotated[str, AfterValidator(_prediction_id), _document({"format": "uuid"})] | None,
        Field(
            description="Of which prediction; one whose receipt is still on its way counts too.",
            examples=[EXAMPLE_ID],
        ),
    ] = None
    label_time: Annotated[
        Annotated[str, AfterValidator(_time), _document({"format": "date-time"})] | None,
        Field(
            description="The time of which the label tells: required with a user; with a "
            "prediction it is the prediction's own unless another is given.",
            examples=["2026-01-31T12:00:00Z"],
        ),
    ] = None


def feedback_schema(entity: Entity, texts: tuple[str, str]) -> type[BaseModel]:
    """Make the schema of a report.

    Parameters
    ----------
    entity
        Whom labels are about.
    texts
        What predictions say for class 0 and class 1; a label may say it too.
    """
    meaning: dict[int | str, int] = {texts[0]: 0, texts[1]: 1, 0: 0, 1: 1}

    def read(label: int | str) -> int:
        known = strip(label) if isinstance(label, str) else label
        if known not in meaning:
            raise ValueError(f"expected 0, 1, '{texts[0]}' or '{texts[1]}'")
        return meaning[known]

    names = " and ".join(f"'{column}'" for column in entity.columns)

    def check(label: Any) -> Any:
        user = read_key(entity, label.__dict__)
        if (user is None) == (label.prediction_id is None):
            raise ValueError(f"expected either 'prediction_id', or {names} and 'label_time'")
        if user is not None and label.label_time is None:
            raise ValueError(f"expected 'label_time' with {names}: when it was so")
        return label

    value = Field(description=f"0 or '{texts[0]}', 1 or '{texts[1]}'.", examples=[1])
    number = Annotated[int, _document({"enum": [0, 1]})]
    text = Annotated[str, _document({"enum": list(texts)})]
    fields: dict[str, Any] = {
        **key_fields(entity, "Of which user."),
        "label": (Annotated[number | text, AfterValidator(read), value], ...),
    }
    checks: dict[str, Any] = {"names_one": model_validator(mode="after")(check)}
    row = create_model("Label", __base__=Label, __validators__=checks, **fields)
    row.model_config["json_schema_extra"] = partial(_describe_either, entity.columns)
    rows = Annotated[list[row], Field(min_length=1, max_length=MOST_LABELS)]
    schema = create_model("Feedback", __config__=ConfigDict(extra="forbid"), labels=(rows, ...))
    schema.model_config["json_schema_extra"] = _describe_one_or_many
    return schema


def _describe_either(keys: tuple[str, ...], document: dict[str, Any]) -> None:
    """Say in the document that a label is about a prediction, or about a user at a time."""
    given = document.pop("properties")
    fields = {name: _without_null(each) for name, each in given.items()}
    fields["prediction_id"]["pattern"] = ID_PATTERN
    for unused in ("required", "type", "additionalProperties"):
        document.pop(unused, None)

    def alternative(title: str, required: list[str], optional: list[str]) -> dict[str, Any]:
        properties = {name: fields[name] for name in required}
        return {
            "title": title,
            "type": "object",
            "properties": properties | {name: given[name] for name in optional},
            "required": required,
            "additionalProperties": False,
        }

    document["oneOf"] = [
        alternative("LabelOfPrediction", ["prediction_id", "label"], ["label_time"]),
        alternative("LabelOfUser", [*keys, "label_time", "label"], []),
    ]


def _describe_one_or_many(document: dict[str, Any]) -> None:
    """Say in the document that a single label needs no list around it."""
    many = {**document, "title": "Labels"}
    document.clear()
    document |= {"title": "Feedback", "anyOf": [many, many["properties"]["labels"]["items"]]}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """A field of the document that must have a value when it is there."""
    given = [each for each in field.get("anyOf", []) if each != {"type": "null"}]
    if len(given) != 1:
        return field
    rest = {name: each for name, each in field.items() if name not in {"anyOf", "default"}}
    return {**rest, **given[0]}


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


def to_records(
    labels: Sequence[Any], entity: Entity, now: datetime, authority: int, caller: str | None
) -> list[LabelRecord]:
    """Turn valid labels into records."""
    received_at_us = microseconds_of(now)
    records = []
    for label in labels:
        prediction_id = UUID(label.prediction_id).bytes if label.prediction_id else None
        if label.label_time is not None:
            label_time_us = microseconds_of(datetime.fromisoformat(label.label_time))
        else:
            assert prediction_id is not None
            label_time_us = time_us_of(prediction_id)
        key = read_key(entity, label.__dict__)
        user_id = None if key is None else entity.identity(key)
        records.append(
            LabelRecord(
                *(prediction_id, user_id, label.label, label_time_us, received_at_us),
                authority=authority,
                caller=caller,
            )
        )
    return records

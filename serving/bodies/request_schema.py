"""What a request's body may look like, derived from the view's raw columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, create_model, model_validator

from configs.errors import nearest
from feature_store.definitions.cleaning import Cleaning
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from serving.bodies.attribute_fields import attribute_fields
from serving.bodies.clean_body import CleanBody
from serving.bodies.field_names import field_of, hyphened
from serving.bodies.key_fields import key_fields, read_key
from serving.middleware.access import current_caller
from serving.prediction.predictor import PredictionRequest

LONGEST_UNIT = 128
LONGEST_VALUE_SHOWN = 100
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class Body(CleanBody):
    """The part of a body that is the same for every view.

    Numbers are finite, and no text is taken for one.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
    )

    attributes: ClassVar[Mapping[str, str]] = {}
    """Attributes by the fields that hold them; the others say whom the request is about."""

    unit_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=LONGEST_UNIT,
            pattern=PRINTABLE,
            description="Who is assigned to an arm of an A/B test when no key is given.",
            examples=["session-42"],
        ),
    ] = None


def request_schema(view: FeatureView) -> type[Body]:
    """Make the body's schema: the entity's key, raw attributes, or both.

    Names may be written with hyphens or underscores.
    """
    fields = key_fields(
        view.key, "Whose stored features to use; attributes in the body win over them."
    )
    raw = view.attributes
    fields |= dict(attribute_fields(view))
    named = frozenset(view.key.columns) - frozenset(raw)
    names = {field_of(name): name for name in (*raw, *view.key.columns)}

    together = [feature.inputs for feature in view.timed_features]

    def asks_something(body: Body) -> Body:
        given = {names[field] for field in body.model_fields_set if field in names}
        for inputs in together:
            lacking = set(inputs) - given
            if lacking and len(lacking) < len(inputs):
                raise ValueError(f"{' and '.join(inputs)} together, or none of them")
        if given <= named and all(body.__dict__[field_of(name)] is None for name in given):
            whom = " and ".join(f"'{name}'" for name in view.key.columns)
            raise ValueError(f"{whom} or at least one of {', '.join(raw)}")
        if not view.key.is_whole:
            read_key(view.key, body.__dict__, raw)  # refuses what is no key
        return body

    validators = {"asks_something": model_validator(mode="after")(asks_something)}
    schema = create_model(
        "PredictionRequest",
        __base__=Body,
        __validators__=validators,  # type: ignore[arg-type]
        **fields,
    )
    numbers = [feature for feature in view.raw_features if feature.kind != "category"]
    read: dict[str, Cleaning] = {each.name: each.cleaning for each in numbers}
    read |= {name: array.cleaning for name, array in view.arrays.items()}
    schema.cleanings = read | {hyphened(name): read[name] for name in read}
    schema.attributes = {field_of(name): name for name in raw}
    schema.model_config["json_schema_extra"] = partial(_describe_either, sorted(named))
    return schema


def _describe_either(named: list[str], document: dict[str, Any]) -> None:
    """Say in the document that something must be asked: a user, or any attribute.

    As what must not be: alternatives beside the fields make generators of clients lose the fields.
    """
    nobody = {"properties": {name: {"type": "null"} for name in named}}
    n = len(named)
    nothing = [
        {"required": ["unit_id"], "maxProperties": 1},
        {"required": named, "maxProperties": n} | nobody,
        {"required": [*named, "unit_id"], "maxProperties": n + 1} | nobody,
    ]
    document |= {"minProperties": 1, "not": {"anyOf": nothing if named else nothing[:1]}}


def to_request(body: Body, entity: Entity) -> PredictionRequest:
    """Turn a valid body into what is asked."""
    values = body.__dict__
    names = body.attributes
    attributes = {names[field]: values[field] for field in body.model_fields_set if field in names}
    caller = current_caller.get().name
    if entity.is_whole:
        return PredictionRequest(
            values[field_of(entity.name)], values["unit_id"], attributes, caller
        )
    parts = read_key(entity, values, names.values())
    if parts is None:
        return PredictionRequest(None, values["unit_id"], attributes, caller)
    identity, text = entity.identity(parts), entity.text(parts)
    return PredictionRequest(identity, values["unit_id"], attributes, caller, text)


def explain(errors: Sequence[Any], known: Sequence[str]) -> Iterator[dict[str, str]]:
    """Say of each error of validation which field it is, what arrived and what was expected.

    Parameters
    ----------
    errors
        As pydantic lists them.
    known
        The fields that a body may have.
    """
    for error in errors:
        place = [str(part) for part in error["loc"] if part != "body"]
        value = error.get("input")
        expected = error["msg"]
        if error["type"] == "extra_forbidden":
            expected = _nearest(place[-1], known)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        yield {
            "field": ".".join(place) or "body",
            "value": _show(value),
            "expected": expected.removeprefix("Value error, "),
        }


class Shown:
    """What is shown of a value that is not kept: it may be large."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _nearest(name: str, known: Sequence[str]) -> str:
    if name in known:
        return f"'{name}' once, with hyphens or with underscores"
    near = nearest(name.replace("-", "_"), known)
    hint = f"did you mean '{near}'? " if near else ""
    return f"{hint}known fields: {', '.join(known)}"


def _show(value: object) -> str:
    """Show any value in a way that JSON can carry: also NaN, halves of characters, huge ones."""
    try:
        text = ascii(value)
    except ValueError:  # more digits than Python is willing to write
        text = "a number of thousands of digits"
    return text if len(text) <= LONGEST_VALUE_SHOWN else f"{text[:LONGEST_VALUE_SHOWN]}…"

"""The fields of a request's body that are attributes, derived from a view's columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.cleaning import LARGEST_NUMBER, becomes_another
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import LARGEST_EXACT_INTEGER, FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.errors import InvalidValue
from serving.bodies.clean_body import marks_pattern
from serving.bodies.field_names import aliases, field_of

LONGEST_WORD = 100


def attribute_fields(view: FeatureView) -> Iterator[tuple[str, Any]]:
    """Fields of a request, as they are called inside, and their types.

    They are raw columns, arrays, and timestamps that functions take.
    """
    for name in view.attributes:
        if name in view.arrays:
            yield field_of(name), (_list_of_numbers(view.arrays[name]), None)
        elif name in view.timestamps:
            yield field_of(name), (_moment(view.exact[name]), None)
        else:
            yield field_of(name), (_attribute(view.definitions[name]), None)


def _attribute(feature: FeatureDefinition) -> Any:
    names, description = aliases(feature.name), _described(feature)
    if feature.open_to is not None:
        description = f"{description} Any word; one that the model does not know is unseen."
        return Annotated[
            str | None, Field(**names, max_length=LONGEST_WORD, description=description)
        ]
    if feature.kind == "category":
        field = Field(
            **names,
            max_length=LONGEST_WORD,
            description=f"{description} Known: {', '.join(feature.categories)}.",
            examples=[feature.categories[0]],
        )
        return Annotated[str | None, field]
    if feature.kind == "boolean":
        return Annotated[bool | None, Field(**names, description=description)]
    number = int if feature.kind == "integer" else float
    limits: dict[str, Any] = dict(zip(("ge", "le"), map(number, feature.limits), strict=True))

    def name_marks(schema: dict[str, Any]) -> None:
        mark = {"type": "string", "pattern": marks_pattern(feature.cleaning)}
        schema["anyOf"].insert(1, mark | {"description": "Stands for a missing value, as null."})

    field = Field(**names, description=description, json_schema_extra=name_marks, **limits)
    if max(map(abs, feature.limits)) <= LARGEST_EXACT_INTEGER:
        return Annotated[number | None, field]
    return Annotated[number | None, BeforeValidator(_keep_digits), field]


def _list_of_numbers(array: ArrayColumn) -> Any:
    number = Annotated[
        float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER), BeforeValidator(_keep_digits)
    ]
    field = Field(
        **aliases(array.name),
        description=_described(array),
        min_length=array.size,
        max_length=array.size,
    )
    return Annotated[list[number] | None, field]


def _moment(column: ExactColumn) -> Any:
    def refuse(text: str) -> str:
        try:
            column.read(text)
        except InvalidValue as error:
            raise ValueError(str(error)) from None
        return text

    field = Field(
        **aliases(column.name),
        description=f"{_described(column)} Without a zone it is in UTC.",
        examples=["2026-01-05T10:00:00Z"],
    )
    text = Annotated[str, Field(max_length=LONGEST_WORD), AfterValidator(refuse)]
    return Annotated[text | None, field]


def _described(column: FeatureDefinition | ArrayColumn | ExactColumn) -> str:
    unit = f" Unit: {column.unit}." if column.unit else ""
    return f"{column.description}{unit}"


def _keep_digits(value: object) -> object:
    """Before a whole number becomes a float, which may be another one."""
    if type(value) in (int, float) and becomes_another(value):
        raise ValueError("expected a whole number that a float32 holds")
    return value

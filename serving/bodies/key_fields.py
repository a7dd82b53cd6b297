"""The fields of a body that say whom it is about, derived from the entity's key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from feature_store.definitions.entity import LARGEST_KEY, LONGEST_KEY, Entity, KeyPart, KeyValue
from feature_store.errors import InvalidValue
from serving.bodies.field_names import field_of


def key_fields(entity: Entity, description: str) -> dict[str, Any]:
    """One field a column of the key, as it is called inside, each null unless it is given."""
    return {
        field_of(part.name): (Annotated[_type_of(part), _field_of(part, description)], None)
        for part in entity.parts
    }


def read_key(
    entity: Entity, values: Mapping[str, Any], attributes: Collection[str] = ()
) -> KeyValue | None:
    """The key that the fields of a body hold; None where they hold none.

    Parameters
    ----------
    values
        By the fields' names inside.
    attributes
        Names of fields that may be given without a key: they are features, too.

    Raises
    ------
    ValueError
        If some columns of it are missing, or it is no key.
    """
    held = {name: values[field_of(name)] for name in entity.columns}
    given = {name: value for name, value in held.items() if value is not None}
    if not set(given) - set(attributes) and len(given) < len(entity.parts):
        return None
    if len(given) < len(entity.parts):
        absent = next(name for name in entity.columns if name not in given)
        raise ValueError(
            f"expected '{absent}', too: the key of a {entity.name} is "
            f"{' and '.join(entity.columns)}"
        )
    try:
        return entity.read(given)
    except InvalidValue as error:
        raise ValueError(str(error)) from None


def example_of(entity: Entity, number: int = 12345) -> dict[str, int | str]:
    """A key as documents show one."""
    return {part.name: number if part.type == "integer" else f"N{number}" for part in entity.parts}


def _type_of(part: KeyPart) -> Any:
    return int | None if part.type == "integer" else str | None


def _field_of(part: KeyPart, description: str) -> Any:
    if part.type == "integer":
        limits: dict[str, Any] = {"ge": -LARGEST_KEY, "le": LARGEST_KEY, "examples": [12345]}
    else:
        limits = {"min_length": 1, "max_length": LONGEST_KEY, "examples": ["N12345"]}
    return Field(alias=part.name, description=description, **limits)

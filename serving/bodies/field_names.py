"""What the fields of a body are called: outside as columns are, inside so that nothing clashes.

A column may be called as what every model of pydantic has (``copy``, ``schema``, ``model_config``),
or begin with an underscore.
"""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices

PREFIX = "field_"


def field_of(name: str) -> str:
    """The field inside that holds a column.

    Examples
    --------
    >>> field_of("schema")
    'field_schema'
    """
    return f"{PREFIX}{name}"


def hyphened(name: str) -> str:
    """The other way to write a field's name."""
    return name.replace("_", "-")


def aliases(name: str) -> dict[str, Any]:
    """What a field of an attribute is called in JSON, as `Field` takes it."""
    return {"alias": hyphened(name), "validation_alias": AliasChoices(hyphened(name), name)}

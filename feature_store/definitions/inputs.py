"""What a feature's function takes, and which kind a column is: found in how it is defined."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol

from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.feature import FeatureDefinition, FeatureFunction, Kind
from feature_store.definitions.rules import refuse_unrepeatable
from feature_store.errors import DefinitionError

KINDS: Mapping[str, Kind] = {
    **{"category": "category", "open vocabulary": "category"},
    **{"integer": "integer", "boolean": "boolean"},
}


class Columns(Protocol):
    """The columns that a view has so far."""

    name: str
    definitions: dict[str, FeatureDefinition]
    exact: dict[str, ExactColumn]
    arrays: dict[str, ArrayColumn]


def kind_of(what: str, chosen: Mapping[str, bool]) -> Kind:
    """The kind of a column: a number, unless something else was chosen.

    Raises
    ------
    DefinitionError
        If more than one thing was.

    Examples
    --------
    >>> kind_of("'age' of 'people'", {"integer": True, "boolean": False}), kind_of("'x'", {})
    ('integer', 'number')
    """
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        raise DefinitionError(f"Feature {what} is defined as {' and as '.join(names)}. Choose one.")
    return KINDS[names[0]] if names else "number"


def inputs_of(
    function: FeatureFunction, view: Columns, *, is_fill: bool = False
) -> tuple[str, ...]:
    """The names of a function's parameters: features of a view, or timestamps alone.

    Raises
    ------
    DefinitionError
        If the view has no such column above it, or none that a function can take, or the function
        is not the same to the bit everywhere.
    """
    refuse_unrepeatable(function)
    inputs = tuple(inspect.signature(function).parameters)
    times = [n for n in inputs if n in view.exact and view.exact[n].type == "timestamp"]
    if times and len(times) == len(inputs) and not is_fill:
        return inputs
    for name in inputs:
        if name not in view.definitions:
            raise _no_input(function.__name__, name, view)
    return inputs


def _no_input(function: str, name: str, view: Columns) -> DefinitionError:
    taken = f"Feature '{function}' takes '{name}', "
    if name in view.arrays:
        members = view.arrays[name].members
        return DefinitionError(
            f"{taken}an array: a function takes columns of numbers. Name the places that it needs: "
            f"{members[0]}, …, {members[-1]}."
        )
    if name in view.exact and view.exact[name].type == "timestamp":
        return DefinitionError(
            f"{taken}a timestamp, beside other columns: what is computed from timestamps takes "
            "nothing else. Make it a feature of its own, which a further one may take."
        )
    if name in view.exact:
        return DefinitionError(
            f"{taken}an exact column of type {view.exact[name].type}: it is for lookup, and no "
            "function can take it. Define what it tells as a number or a category of its own."
        )
    return DefinitionError(
        f"{taken}which '{view.name}' does not define above it. Known so far: "
        f"{', '.join([*view.definitions, *view.exact])}."
    )

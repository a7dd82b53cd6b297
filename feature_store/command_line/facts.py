"""What ``list`` and ``describe`` tell of a column: a feature, a lookup or an array."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from configs.settings import Settings
from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import MISSING, UNSEEN, FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import View
from feature_store.offline import tables
from feature_store.online.row_codec import HEADER_BYTES, RowCodec, row_prefix

Column = FeatureDefinition | ExactColumn | ArrayColumn
Facts = dict[str, Any]
"""What is told, by its name, in the order in which it is told."""

SHOWN_CATEGORIES = 4
TAKEN: Mapping[str, str] = {"float64": "the nearest float32"}
"""What a model takes of a lookup, by its type."""


def columns_of(view: View) -> list[Column]:
    """What people see of a view, each once: an array is one column, a lookup is no feature."""
    if not isinstance(view, FeatureView):
        return list(view.definitions.values())
    shown: dict[str, Column] = {}
    for feature in view.definitions.values():
        name = feature.array[0] if feature.array else feature.name
        if not feature.is_cast:
            shown[name] = view.arrays[name] if feature.array else feature
    return [*shown.values(), *view.exact.values()]


def column_named(view: View, name: str) -> Column | None:
    """A column by its name; None if there is none."""
    return next((column for column in columns_of(view) if column.name == name), None)


def facts_of(column: Column) -> Facts:
    """What is told of a column in a list."""
    if isinstance(column, ExactColumn):
        return _facts_of_lookup(column)
    if isinstance(column, ArrayColumn):
        return _facts_of_array(column)
    return {
        "feature": column.name,
        "kind": column.kind,
        "unit": column.unit or None,
        "valid_range": column.valid_range,
        "categories": list(column.categories) or None,
        "open_to": column.open_to,
        "protected": column.protected,
        "missing_marks": list(column.missing_marks),
        "tags": dict(column.tags),
        "version": column.version,
        "description": column.description,
        "inputs": list(column.inputs),
    }


def everything_of(view: FeatureView, column: Column, settings: Settings) -> Facts:
    """All that is told of a column: meaning, inputs, dependants, and where it is stored."""
    facts = {"view": view.name, **facts_of(column)}
    if isinstance(column, ExactColumn):
        return facts | _place_of_lookup(view, column, settings)
    if isinstance(column, ArrayColumn):
        return facts | _place_of_array(view, column, settings)
    codes = {"(missing)": MISSING, "(unseen)": UNSEEN, **column.codes} if column.codes else None
    fill = view.fills.get(column.name)
    return {
        **facts,
        "codes": codes,
        "derived_when_absent_from": list(fill.inputs) if fill else None,
        "all_inputs": all_inputs(view, column.name),
        **_dependants(view, [column.name]),
        "position": view.schema.position(column.name),
        "offline_column": f"{tables.table_name(view.schema)}.{column.name} "
        f"{tables.SQL_TYPES[column.kind]}",
        "readable_column": f"{view.name}.{column.name}",
        "online_bytes": _online_bytes(view, view.schema.position(column.name), 1, settings),
        "source": inspect.getsource(column.function) if column.function else None,
    }


def all_inputs(view: FeatureView, name: str) -> list[str]:
    """Every column that a feature is computed from, in the order of the view."""
    found: set[str] = set()
    waiting = list(view.definitions[name].inputs)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += view.definitions[each].inputs if each in view.definitions else ()
    return [each for each in dict.fromkeys([*view.definitions, *view.exact]) if each in found]


def kind_of(column: Column) -> str:
    """What a column holds, in a few words.

    Examples
    --------
    >>> kind_of(ExactColumn("opened", "timestamp", ""))
    'lookup: timestamp'
    """
    if isinstance(column, ExactColumn):
        return f"lookup: {column.type}"
    return f"array of {column.size}" if isinstance(column, ArrayColumn) else column.kind


def values_of(column: Column) -> str:
    """The values that a column may have, in a few words."""
    if isinstance(column, ExactColumn | ArrayColumn):
        return "any"
    if column.open_to is not None:
        return f"the first {column.open_to:,} words that come"
    if column.kind == "category":
        words = column.categories
        more = [f"… ({len(words)})"] if len(words) > SHOWN_CATEGORIES else []
        return ", ".join([*words[:SHOWN_CATEGORIES], *more])
    if column.valid_range is None:
        return "true or false" if column.kind == "boolean" else "any"
    return f"{column.valid_range[0]:,.10g} to {column.valid_range[1]:,.10g}"


def _facts_of_lookup(column: ExactColumn) -> Facts:
    return {
        "lookup": column.name,
        "type": column.type,
        "unit": column.unit or None,
        "protected": column.protected,
        "missing_marks": list(column.missing_marks),
        "tags": dict(column.tags),
        "description": column.description,
        "model_takes": TAKEN.get(column.type),
    }


def _facts_of_array(column: ArrayColumn) -> Facts:
    return {
        "array": column.name,
        "size": column.size,
        "unit": column.unit or None,
        "protected": column.protected,
        "missing_marks": list(column.missing_marks),
        "tags": dict(column.tags),
        "description": column.description,
    }


def _place_of_lookup(view: FeatureView, column: ExactColumn, settings: Settings) -> Facts:
    bit, key = view.schema.exact_positions[column.name], _online_key(view, settings)
    return {
        **_dependants(view, [column.name]),
        "offline_column": f"{tables.table_name(view.schema)}.{column.name} "
        f"{tables.EXACT_TYPES[column.type]}",
        "readable_column": f"{view.name}.{column.name}",
        "online_bytes": f"from {RowCodec(view.schema).dtype.itemsize} on of {key}, behind the "
        f"vector, the lookup of bit {bit}",
    }


def _place_of_array(view: FeatureView, column: ArrayColumn, settings: Settings) -> Facts:
    first, table = view.schema.position(column.members[0]), tables.table_name(view.schema)
    return {
        **_dependants(view, column.members),
        "position": first,
        "offline_column": f"{table}.{column.members[0]}, …, {column.members[-1]} real",
        "readable_column": f"{view.name}.{column.name} real[]",
        "online_bytes": _online_bytes(view, first, column.size, settings),
    }


def _dependants(view: FeatureView, names: list[str] | tuple[str, ...]) -> Facts:
    features = view.schema.features
    direct = [each.name for each in features if set(names) & set(each.inputs)]
    further = [each.name for each in features if set(names) & set(all_inputs(view, each.name))]
    return {"dependants": direct, "all_dependants": further}


def _online_bytes(view: FeatureView, place: int, size: int, settings: Settings) -> str:
    start = HEADER_BYTES + 4 * place
    return f"{start} to {start + 4 * size} of {_online_key(view, settings)}, float32"


def _online_key(view: FeatureView, settings: Settings) -> str:
    return f"{row_prefix(settings.feature.project, view.schema)}{{{view.entity}}}"

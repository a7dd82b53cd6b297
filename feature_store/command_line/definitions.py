"""``list`` and ``describe``: what is defined, and how it is stored."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from configs.command_line import AsJson, Debug
from configs.errors import FTIError
from configs.output import Display, Table, show
from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.names import referred
from feature_store.command_line.versions import versions_table
from feature_store.definitions.schema import MISSING, UNSEEN, FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.feature_definitions import VIEWS
from feature_store.offline import tables
from feature_store.online.row_codec import HEADER_BYTES, RowCodec, row_prefix
from feature_store.references import view_named

SHOWN_CATEGORIES = 4

commands = typer.Typer()


@commands.command("list", epilog="Example: python -m feature_store list user_features --json")
def list_features(
    view: Annotated[str | None, typer.Argument(help="A feature view; all when not given.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the features: kind, valid values, unit, protected or not, tags."""
    views = [view_named(view)] if view else list(VIEWS)
    columns = ("feature", "kind", "values", "unit", "protected", "tags", "description")
    answer = Display(
        [
            {
                "view": each.name,
                "entity": each.entity,
                "fingerprint": each.schema.fingerprint,
                "features": [_facts(feature) for feature in each.schema.features],
            }
            for each in views
        ],
        [
            Table(
                f"{each.name}: {len(each.schema)} features of {each.entity}, "
                f"version {each.schema.fingerprint}",
                columns,
                [_row(feature) for feature in each.schema.features],
            )
            for each in views
        ],
    )
    show(answer, as_json=as_json)


@commands.command(epilog="Examples: … describe user_features · … describe user_features:age_band")
def describe(
    reference: Annotated[str, typer.Argument(help="VIEW, VIEW:FEATURE or FEATURE")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show everything about a view or a feature: meaning, inputs, dependants, layout, versions."""
    settings = load_settings()
    view, feature = referred(reference)
    stored = _stored_versions(view, settings)
    if isinstance(view, ActivityView):
        facts = _activity_facts(view, feature, settings)
    elif feature is None:
        facts = _view_facts(view, settings)
    else:
        facts = _everything(view, feature, settings)
    title = view.name if feature is None else f"{view.name}:{feature.name}"
    about = Table(title, ("", ""), _as_rows(facts))
    show(Display(facts | {"versions": stored.data}, [about, *stored.tables]), as_json=as_json)


def _activity_facts(
    view: ActivityView, feature: FeatureDefinition | None, settings: Settings
) -> dict[str, Any]:
    if feature is None:
        return activity.view_facts(view, settings)
    return {**_facts(feature), **activity.feature_facts(view, feature)}


def _view_facts(view: FeatureView, settings: Settings) -> dict[str, Any]:
    schema, codec = view.schema, RowCodec(view.schema)
    return {
        "view": view.name,
        "entity": view.entity,
        "tags": dict(view.tags),
        "features": len(schema),
        "raw_features": [feature.name for feature in view.raw_features],
        "derived_when_absent": sorted(view.fills),
        "fingerprint": schema.fingerprint,
        "offline_table": tables.table_name(schema),
        "readable_sql_view": view.name,
        "online_key": f"{row_prefix(settings.feature.project, schema)}{{{view.entity}}}",
        "online_row_bytes": codec.dtype.itemsize,
    }


def _facts(feature: FeatureDefinition) -> dict[str, Any]:
    return {
        "feature": feature.name,
        "kind": feature.kind,
        "unit": feature.unit or None,
        "valid_range": feature.valid_range,
        "categories": list(feature.categories) or None,
        "protected": feature.protected,
        "tags": dict(feature.tags),
        "version": feature.version,
        "description": feature.description,
        "inputs": list(feature.inputs),
    }


def _everything(
    view: FeatureView, feature: FeatureDefinition, settings: Settings
) -> dict[str, Any]:
    schema, place = view.schema, view.schema.position(feature.name)
    start = HEADER_BYTES + 4 * place
    codes = {"(missing)": MISSING, "(unseen)": UNSEEN, **feature.codes} if feature.codes else None
    fill = view.fills.get(feature.name)
    return {
        "view": view.name,
        **_facts(feature),
        "codes": codes,
        "derived_when_absent_from": list(fill.inputs) if fill else None,
        "all_inputs": _all_inputs(view, feature.name),
        "dependants": [each.name for each in schema.features if feature.name in each.inputs],
        "all_dependants": [
            each.name for each in schema.features if feature.name in _all_inputs(view, each.name)
        ],
        "position": place,
        "offline_column": f"{tables.table_name(schema)}.{feature.name} "
        f"{tables.SQL_TYPES[feature.kind]}",
        "readable_column": f"{view.name}.{feature.name}",
        "online_bytes": f"{start} to {start + 4} of {row_prefix(settings.feature.project, schema)}"
        f"{{{view.entity}}}, float32",
        "source": inspect.getsource(feature.function) if feature.function else None,
    }


def _all_inputs(view: FeatureView, name: str) -> list[str]:
    """Every column that a feature is computed from, in the order of the view."""
    found: set[str] = set()
    waiting = list(view.definitions[name].inputs)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += view.definitions[each].inputs
    return [each for each in view.definitions if each in found]


def _stored_versions(view: View, settings: Settings) -> Display:
    """The stored versions; the definitions are shown even when the store cannot be asked."""
    try:
        return versions_table(connect.offline_store(settings), view)
    except FTIError as error:
        return Display(None, [Table("Versions", ("cannot be read",), [(str(error),)])])


def _row(feature: FeatureDefinition) -> Sequence[object]:
    tags = ", ".join(f"{name}={value}" for name, value in feature.tags.items())
    return (
        *(feature.name, feature.kind, _values(feature), feature.unit),
        *("yes" if feature.protected else "", tags, feature.description),
    )


def _values(feature: FeatureDefinition) -> str:
    if feature.kind == "category":
        words = feature.categories
        more = [f"… ({len(words)})"] if len(words) > SHOWN_CATEGORIES else []
        return ", ".join([*words[:SHOWN_CATEGORIES], *more])
    if feature.valid_range is None:
        return "any"
    return f"{feature.valid_range[0]:,.10g} to {feature.valid_range[1]:,.10g}"


def _as_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in facts.items():
        if name == "source" and value:
            lines = value.rstrip().splitlines()
            rows += [(name if n == 0 else "", line) for n, line in enumerate(lines)]
        elif value is not None and value not in ([], {}):
            rows.append((name.replace("_", " "), _fact(name, value)))
    return rows


def _fact(name: str, value: Any) -> str:
    if isinstance(value, dict):
        pairs = [(v, k) for k, v in value.items()] if name == "codes" else list(value.items())
        return ", ".join(f"{k}={v}" for k, v in pairs)
    if name == "valid_range":
        return f"{value[0]:,.10g} to {value[1]:,.10g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)

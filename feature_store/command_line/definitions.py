"""``list`` and ``describe``: what is defined, and how it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from configs.command_line import AsJson, Debug
from configs.errors import FTIError
from configs.output import Display, Table, show
from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.facts import (
    Column,
    Facts,
    columns_of,
    everything_of,
    facts_of,
    kind_of,
    values_of,
)
from feature_store.command_line.names import referred
from feature_store.command_line.versions import versions_table
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.feature_definitions import VIEWS
from feature_store.offline import tables
from feature_store.online.row_codec import RowCodec, row_prefix
from feature_store.references import view_named

commands = typer.Typer()


@commands.command("list", epilog="Example: python -m feature_store list user_features --json")
def list_features(
    view: Annotated[str | None, typer.Argument(help="A feature view; all when not given.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List features, arrays and lookups: kind, valid values, unit, protected or not, tags."""
    views = [view_named(view)] if view else list(VIEWS)
    columns = ("feature", "kind", "values", "unit", "protected", "tags", "description")
    answer = Display(
        [
            {
                "view": each.name,
                "entity": each.entity,
                "fingerprint": each.schema.fingerprint,
                "features": [facts_of(feature) for feature in each.schema.features],
                "arrays": [facts_of(array) for array in _arrays(each)],
                "lookups": [facts_of(lookup) for lookup in each.schema.exact],
            }
            for each in views
        ],
        [
            Table(
                f"{each.name}: {len(each.schema)} features of {each.entity}, "
                f"version {each.schema.fingerprint}",
                columns,
                [_row(column) for column in columns_of(each)],
            )
            for each in views
        ],
    )
    show(answer, as_json=as_json)


@commands.command(epilog="Examples: … describe user_features · … describe user_features:age_band")
def describe(
    reference: Annotated[str, typer.Argument(help="VIEW, VIEW:COLUMN or COLUMN")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show everything about a view or a column: meaning, inputs, dependants, layout, versions."""
    settings = load_settings()
    view, column = referred(reference)
    stored = _stored_versions(view, settings)
    if isinstance(view, ActivityView):
        facts = _activity_facts(view, column, settings)
    elif column is None:
        facts = view_facts(view, settings)
    else:
        facts = everything_of(view, column, settings)
    title = view.name if column is None else f"{view.name}:{column.name}"
    about = [Table(title, ("", ""), _as_rows(facts)), *(() if column else lookups_table(view))]
    show(Display(facts | {"versions": stored.data}, [*about, *stored.tables]), as_json=as_json)


def _activity_facts(view: ActivityView, column: Column | None, settings: Settings) -> Facts:
    if not isinstance(column, FeatureDefinition):
        return activity.view_facts(view, settings)
    return {**facts_of(column), **activity.feature_facts(view, column)}


def view_facts(view: FeatureView, settings: Settings) -> Facts:
    """What ``describe`` tells about a view of rows."""
    schema, codec = view.schema, RowCodec(view.schema)
    return {
        "view": view.name,
        "entity": view.entity,
        "tags": dict(view.tags),
        "features": len(schema),
        "raw_features": [feature.name for feature in view.raw_features],
        "derived_when_absent": sorted(view.fills),
        "arrays": [facts_of(array) for array in view.arrays.values()],
        "lookups": [facts_of(lookup) for lookup in schema.exact],
        "fingerprint": schema.fingerprint,
        "offline_table": tables.table_name(schema),
        "readable_sql_view": view.name,
        "online_key": f"{row_prefix(settings.feature.project, schema)}{{{view.entity}}}",
        "online_row_bytes": codec.dtype.itemsize,
    }


def lookups_table(view: View) -> list[Table]:
    """The lookups of a view for people; no table where there are none."""
    columns = ("lookup", "type", "unit", "protected", "missing", "model takes", "description")
    rows = [
        (
            *(each.name, each.type, each.unit, "yes" if each.protected else ""),
            *(", ".join(each.missing_marks), facts_of(each)["model_takes"], each.description),
        )
        for each in view.schema.exact
    ]
    return [Table(f"Lookups of {view.name}, kept to the digit", columns, rows)] if rows else []


def _arrays(view: View) -> list[Column]:
    return list(view.arrays.values()) if isinstance(view, FeatureView) else []


def _stored_versions(view: View, settings: Settings) -> Display:
    """The stored versions; the definitions are shown even when the store cannot be asked."""
    try:
        return versions_table(connect.offline_store(settings), view)
    except FTIError as error:
        return Display(None, [Table("Versions", ("cannot be read",), [(str(error),)])])


def _row(column: Column) -> Sequence[object]:
    tags = ", ".join(f"{name}={value}" for name, value in column.tags.items())
    return (
        *(column.name, kind_of(column), values_of(column), column.unit),
        *("yes" if column.protected else "", tags, column.description),
    )


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
    if isinstance(value, list) and isinstance(value[0], dict):
        return ", ".join(str(next(iter(each.values()))) for each in value)
    return ", ".join(value) if isinstance(value, list) else str(value)

"""``stats``: what the stored values of each feature look like, and how fresh they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show, text
from configs.settings import load_settings
from feature_store import connect
from feature_store.command_line.activity import current_values
from feature_store.command_line.names import VersionOption, ViewOption, schema_of
from feature_store.definitions.schema import (
    MISSING,
    UNSEEN,
    FeatureDefinition,
    FeatureSchema,
)
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import OfflineStore
from feature_store.references import view_named

if TYPE_CHECKING:
    import polars as pl

CELLS_AT_ONCE = 8_000_000
"""Values that are in memory together: a view of ten million rows is read column by column."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOP_CATEGORIES = 3

commands = typer.Typer()


@commands.command(epilog="Examples: … stats · … stats --feature age --json")
def stats(
    view: ViewOption = MODEL_VIEW.name,
    feature: Annotated[str | None, typer.Option(help="Only this feature.")] = None,
    version: VersionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show null and unseen rates, moments, quantiles, top categories and freshness."""
    # Of a windowed view: of every user's values as of now; else of every stored row.
    now, offline = datetime.now(UTC), connect.offline_store(load_settings())
    whole = schema_of(view_named(view), version, offline)
    schema = whole if feature is None else whole.select([feature])
    table = offline.table(schema)
    data: list[dict[str, Any]] = []
    for features, rows in _columns(offline, schema, table, now):
        data += [_statistics(each, rows, now) for each in features]
    fingerprint = schema.definition_fingerprint
    count = data[0]["rows"] if data else 0
    what = f"users as of {text(now)}" if schema.is_windowed else "rows"
    title = f"{view}, version {fingerprint}: {count:,} {what}"
    numbers = [each for each in data if each["kind"] != "category"]
    categories = [each for each in data if each["kind"] == "category"]
    tables = [_number_table(title, numbers)] if numbers else []
    if categories:
        tables.append(_category_table("" if numbers else title, categories))
    answer = {"view": view, "fingerprint": fingerprint, "rows": count, "features": data}
    show(Display(answer, tables), as_json=as_json)


def _columns(
    offline: OfflineStore, schema: FeatureSchema, table: str, now: datetime
) -> Iterator[tuple[Sequence[FeatureDefinition], pl.DataFrame]]:
    """Features, as many as fit, with their stored columns and the times of the rows."""
    if schema.is_windowed:
        yield schema.features, current_values(offline, schema, now)
        return
    with offline.postgres.transaction() as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    together = max(1, CELLS_AT_ONCE // max(1, row[0] if row else 0))
    for start in range(0, len(schema), together):
        features = schema.features[start : start + together]
        names = ", ".join(feature.name for feature in features)
        yield (
            features,
            offline.postgres.query(
                f"SELECT event_timestamp, created_timestamp, {names} FROM {table}"
            ),
        )


def _statistics(feature: FeatureDefinition, rows: pl.DataFrame, now: datetime) -> dict[str, Any]:
    import polars as pl

    column, n = rows[feature.name], len(rows)
    is_category = feature.kind == "category"
    given = column != MISSING if is_category else column.is_not_null()
    newest = (
        rows.lazy()
        .filter(given)
        .select(pl.col("event_timestamp").max(), pl.col("created_timestamp").max())
    )
    event, created = newest.collect().row(0)
    known = int(given.sum())
    return {
        "feature": feature.name,
        "kind": feature.kind,
        "rows": n,
        "null_rate": (n - known) / n if n else None,
        **(_of_category(feature, column, n) if is_category else _of_number(column)),
        "newest_event": event,
        "newest_event_age": now - event if event else None,
        "newest_created": created,
        "newest_created_age": now - created if created else None,
    }


def _of_number(column: pl.Series) -> dict[str, Any]:
    import polars as pl

    values = column.drop_nulls().cast(pl.Float64).sort()
    return {
        "distinct": values.n_unique() if len(values) else 0,
        "mean": values.mean(),
        "std": values.std(),
        "min": values.min(),
        **{f"q{round(q * 100):02}": values.quantile(q, "linear") for q in QUANTILES},
        "max": values.max(),
    }


def _of_category(feature: FeatureDefinition, column: pl.Series, n: int) -> dict[str, Any]:
    counts = dict(column.value_counts().iter_rows())
    unseen = counts.pop(UNSEEN, 0)
    counts.pop(MISSING, None)
    top = sorted(counts.items(), key=lambda each: -each[1])
    return {
        "unseen_rate": unseen / n if n else None,
        "distinct": len(counts),
        "top": {str(feature.decode(code)): count / n for code, count in top},
    }


def _number_table(title: str, data: Sequence[dict[str, Any]]) -> Table:
    names = ("mean", "std", "min", *(f"q{round(q * 100):02}" for q in QUANTILES), "max")
    rows = [
        (
            *(each["feature"], _percent(each["null_rate"]), each["distinct"]),
            *(each[name] for name in names),
            *(each["newest_event_age"], each["newest_created_age"]),
        )
        for each in data
    ]
    return Table(title, ("number", "null", "distinct", *names, "event age", "created age"), rows)


def _category_table(title: str, data: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            *(each["feature"], _percent(each["null_rate"]), _percent(each["unseen_rate"])),
            *(each["distinct"], _top(each["top"])),
            *(each["newest_event_age"], each["newest_created_age"]),
        )
        for each in data
    ]
    columns = ("category", "null", "unseen", "distinct", "most frequent")
    return Table(title, (*columns, "event age", "created age"), rows)


def _top(shares: dict[str, float]) -> str:
    shown = list(shares.items())[:TOP_CATEGORIES]
    return ", ".join(f"{word} {_percent(share)}" for word, share in shown)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.2%}"

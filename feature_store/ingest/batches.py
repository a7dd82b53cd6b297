"""From a batch of a source to features: the raw table with keys, event times and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.sources import Meaning
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.exact import moments
from feature_store.definitions.horizon import Horizon
from feature_store.definitions.validation import Reasons
from feature_store.definitions.view import FeatureView
from feature_store.errors import SourceError
from feature_store.ingest.array_columns import parse_array
from feature_store.ingest.parsing import (
    ParsedKeys,
    clean,
    parse_categories,
    parse_exact,
    parse_keys,
    parse_labels,
    parse_numbers,
    parse_times,
)
from feature_store.offline.vocabularies import Vocabularies
from feature_store.offline_store import Labels, QuarantinedRow
from feature_store.sources.port import Batch

if TYPE_CHECKING:
    import polars as pl

HASH_MULTIPLIER = 2_654_435_761
"""Knuth's multiplicative hash, 2**32 over the golden ratio: spreads consecutive keys evenly."""
ROWS_THAT_TELL = 20
"""If none of so many rows has a usable key, the keys are of another type."""


@dataclass(frozen=True)
class RawTable:
    """A batch of raw rows, encoded.

    Parameters
    ----------
    batch
        The rows as they were read.
    keys
        Identities, and the texts behind them.
    times
        datetime64[us] ``(n,)``.
    columns
        Raw column name to float32 numbers or int64 codes ``(n,)``.
    exact
        Values of the exact columns, objects ``(n, k)``; None where the view has none.
    labels
        int8 ``(n,)``, None when the source has none.
    reasons
        Why rows are refused, by place.
    unseen
        Words outside their vocabulary, as ``column=word``, with how often they came.
    held_back
        bool ``(n,)``: rows whose time has not come; they are not refused, and not stored yet.
    """

    batch: Batch
    keys: ParsedKeys
    times: NDArray[np.datetime64]
    columns: Mapping[str, NDArray[Any]]
    exact: NDArray[np.object_] | None
    labels: NDArray[np.int8] | None
    reasons: Reasons
    unseen: Counter[str]
    held_back: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True)
class Interval:
    """Event times from ``start`` on and before ``end``."""

    start: datetime
    end: datetime


def parse(
    batch: Batch,
    view: FeatureView,
    source: Meaning,
    event_time: EventTimeConfig,
    horizon: Horizon,
) -> RawTable:
    """Parse and check a batch; without a column of keys, rows are counted in file order.

    Parameters
    ----------
    horizon
        Rows beyond it are refused, rows ahead of now are held back.

    Raises
    ------
    SourceError
        If it has no rows, or no column for a raw feature, the key, the time or the label.
    """
    texts = wanted_columns(batch, view, source)
    reasons: Reasons = {place: broken.reason for place, broken in batch.broken.items()}
    keys, times = keys_and_times(batch, texts, view.key, source, event_time, reasons)
    columns: dict[str, NDArray[Any]] = {}
    unseen: Counter[str] = Counter()
    for feature in view.raw_features:
        if feature.array is not None:
            continue
        if feature.kind == "category":
            columns[feature.name], words = parse_categories(feature, texts[feature.name])
            unseen.update({f"{feature.name}={word}": count for word, count in words.items()})
        else:
            columns[feature.name] = parse_numbers(feature, texts[feature.name], reasons)
    for array in view.arrays.values():
        places = parse_array(array, texts[array.name], reasons)
        columns |= dict(zip(array.members, places.T, strict=True))
    exact = None
    if view.exact:
        columns_ = [parse_exact(each, texts[name], reasons) for name, each in view.exact.items()]
        exact = np.stack(columns_, axis=1)
    labels, name = None, source.label_column
    if name is not None:
        labels = parse_labels(name, texts[name], source.label_values, reasons)
    for place in np.flatnonzero(horizon.is_too_far(times)).tolist():
        name = source.event_time_column or "the time by 'event_time'"
        reasons.setdefault(place, horizon.refusal(times[place], name))
    held_back = horizon.is_ahead(times)
    held_back[list(reasons)] = False
    return RawTable(batch, keys, times, columns, exact, labels, reasons, unseen, held_back)


def learn_words(
    batch: Batch, view: FeatureView, source: Meaning, vocabularies: Vocabularies
) -> FeatureView:
    """Learn the words of a batch that the view does not know; give the view with all."""
    texts = wanted_columns(batch, view, source)
    names = [feature.name for feature in view.schema.open_features]
    given = {name: texts[name].drop_nulls().unique(maintain_order=True) for name in names}
    return vocabularies.learn(view, given)


def inside(
    batch: Batch, view: FeatureView, config: FeatureConfig, interval: Interval | None
) -> Batch:
    """The rows whose events are in an interval, all when it is None; unreadable times are not."""
    if interval is None:
        return batch
    texts = wanted_columns(batch, view, config.source)
    reasons: Reasons = {}
    _, times = keys_and_times(batch, texts, view.key, config.source, config.event_time, reasons)
    which = (times >= _moment(interval.start)) & (times < _moment(interval.end))
    which[list(reasons)] = False
    return batch.rows(which)


def engineer(table: RawTable, engine: Engine) -> FeatureMatrix:
    """Compute the features of every row of a raw table."""
    columns = dict(table.columns)
    if table.exact is not None:
        for name in engine.view.timestamps:
            place = engine.schema.exact_positions[name]
            columns[name] = moments(table.exact[:, place].tolist())
    values = engine.table(columns)
    return FeatureMatrix(values, table.keys.identities, table.times, engine.schema, table.exact)


def good_rows(
    table: RawTable, matrix: FeatureMatrix, reasons: Reasons
) -> tuple[FeatureMatrix, Labels, ParsedKeys]:
    """Features, labels and keys of the rows that are not refused, and not held back."""
    good = ~table.held_back
    good[list(reasons)] = False
    labels, keys = table.labels, table.keys.rows(good)
    if labels is None:
        nothing = np.zeros(len(table), dtype=bool)
        no_values = np.empty(0, dtype=np.int8)
        no_labels = Labels(table.keys.identities[nothing], no_values, table.times[nothing])
        return matrix.rows(good), no_labels, keys
    return matrix.rows(good), Labels(keys.identities, labels[good], table.times[good]), keys


def quarantined_rows(table: RawTable, reasons: Reasons) -> list[QuarantinedRow]:
    """The refused rows as they were read, with their reasons."""
    refused = []
    for place, reason in sorted(reasons.items()):
        broken = table.batch.broken.get(place)
        raw = broken.raw if broken else table.batch.columns.row(place, named=True)
        number = int(table.batch.row_numbers[place])
        refused.append(QuarantinedRow(table.batch.source, number, reason, _as_json(raw)))
    return refused


def event_times(keys: NDArray[np.int64], config: EventTimeConfig) -> NDArray[np.datetime64]:
    """Event times ``(n,)`` of rows without a clock: a fixed function of the key.

    ``start + (end - start) × ((key × 2654435761) mod 2**32) / 2**32``, cut to whole seconds; so
    times spread evenly over ``[start, end)`` and never change between runs.
    """
    start = np.datetime64(config.start.replace(tzinfo=None), "s")
    seconds = int((config.end - config.start).total_seconds())
    hashed = (keys.astype(np.uint64) * np.uint64(HASH_MULTIPLIER)) % np.uint64(2**32)
    offset = (hashed * np.uint64(seconds)) >> np.uint64(32)
    return (start + offset.astype("timedelta64[s]")).astype("datetime64[us]")


def wanted_columns(batch: Batch, view: FeatureView, source: Meaning) -> dict[str, pl.Series]:
    """Our columns out of the source's, cleaned."""
    optional = (*source.key_columns, source.event_time_column, source.label_column)
    raw = dict.fromkeys([*view.attributes, *view.exact])
    wanted = [*raw, *(name for name in optional if name)]
    named = [source.rename.get(name, name) for name in batch.columns.columns]
    twice = [name for name in wanted if named.count(name) > 1]
    if twice:
        raise SourceError(
            f"Two columns of the source would be '{twice[0]}'. Rename both in 'source.rename'."
        )
    ours = dict(zip(named, batch.columns.columns, strict=True))
    absent = [name for name in wanted if name not in ours]
    if absent or not len(batch):
        problem = f"no column '{absent[0]}'" if absent else "no rows"
        raise SourceError(
            f"The source has {problem}; expected the columns {', '.join(wanted)}. See "
            "'source' in the feature settings."
        )
    own_marks = {name: column.missing_marks for name, column in view.exact.items()}
    own_marks |= {feature.name: feature.missing_marks for feature in view.raw_features}
    return {
        name: batch.columns[ours[name]]  # lists: read by what knows their size
        if name in view.arrays
        else clean(batch.columns[ours[name]], own_marks.get(name, view.missing_marks))
        for name in wanted
    }


def keys_and_times(
    batch: Batch,
    texts: Mapping[str, pl.Series],
    entity: Entity,
    source: Meaning,
    event_time: EventTimeConfig,
    reasons: Reasons,
) -> tuple[ParsedKeys, NDArray[np.datetime64]]:
    """Entity keys and event times ``(n,)`` of a batch; adds why those of a row cannot be used.

    Raises
    ------
    SourceError
        If the source's keys are of another type than the entity's: of many rows none has one.
    """
    columns, time = source.key_columns, source.event_time_column
    if columns:
        _refuse_other_columns(entity, columns)
        refused: Reasons = {}
        keys = parse_keys(entity, [texts[name] for name in columns], refused)
        _refuse_other_keys(entity, refused, len(batch))
        for place, reason in refused.items():
            reasons.setdefault(place, reason)
    else:
        _refuse_other_columns(entity, ("(its rows, counted)",))
        keys = ParsedKeys(batch.ordinals)
    if time is None:
        return keys, event_times(keys.identities, event_time)
    return keys, parse_times(time, texts[time], reasons)


def _refuse_other_columns(entity: Entity, columns: Sequence[str]) -> None:
    is_counted = columns[0].startswith("(")
    if len(columns) != len(entity.parts) or (is_counted and not entity.is_whole):
        parts = " and ".join(f"{part.name} ({part.type})" for part in entity.parts)
        raise SourceError(
            f"The key of '{entity.name}' is {parts}, and 'source.key_column' says "
            f"{', '.join(columns)}. Name the columns that hold it, in this order."
        )


def _refuse_other_keys(entity: Entity, refused: Reasons, n: int) -> None:
    if n >= ROWS_THAT_TELL and len(refused) == n:
        raise SourceError(
            f"None of the first {n:,} rows has a key of '{entity.name}': {refused[0]}. If that is "
            f"what its keys look like, say so where it is defined: Entity('{entity.name}', "
            "key='string'), or key='integer', or the names of several columns."
        )


def _moment(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def _as_json(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What PostgreSQL takes as JSON: no NaN, no times, no texts with a zero byte."""
    return {_text(name): _plain(value) for name, value in raw.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    return _text(str(value))


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd").encode(errors="replace").decode()

"""A planned answer as the text that Feast's server sends, made without messages in between."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from feature_store.feast_plugin.field_values import seconds_of
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feast_plugin.online.planned_views import PlannedView, ViewAnswer, spread
from feature_store.online.row_codec import Row, moment_of

BEGINNING = "1970-01-01T00:00:00Z"
"""What Feast says of the time of a value that has none."""
APART = "\x1f"
"""Stands between values: JSON escapes it within texts, so that a list is split where it stands."""
_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_apart = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(APART, ":")).encode


def rendered(answer: PlannedResponse) -> bytes | None:
    """The body of Feast's server for an answer; None where Feast has to write it.

    JSON has no number for some values, and those of views of the user's own are of any type.
    """
    n, labels, vectors = len(answer.keys), [], []
    for name, given in answer.keys.given.items():
        labels.append(name)
        values = _list([_text(value) for value in given])
        vectors.append(_joined(values, _list(['"PRESENT"'] * n), _list([f'"{BEGINNING}"'] * n)))
    try:
        for found in answer.answers:
            if not isinstance(found, ViewAnswer):
                return None
            labels += found.view.features.labels
            vectors += _vectors(found)
    except ValueError:  # an infinite number, or a value that is not one
        return None
    names = _text({"feature_names": labels})
    return f'{{"results":[{",".join(vectors)}],"metadata":{names}}}'.encode()


def _vectors(found: ViewAnswer) -> Iterator[str]:
    """The features of one view."""
    n = len(found.found)
    columns = _as_numbers(found.view, found.columns())
    texts = _apart(list(itertools.chain.from_iterable(columns)))[1:-1].split(APART)
    times = _list(spread(found.keys, [f'"{_time(row)}"' for row in found.found]))
    present, absent = _list(spread(found.keys, ['"PRESENT"'] * n)), _absent(found)
    parts = (texts[start : start + n] for start in range(0, len(texts), n))
    for column, part in zip(columns, parts, strict=True):
        values = spread(found.keys, part)
        if None in column:
            both = zip(column, absent, strict=True)
            statuses = ['"PRESENT"' if value is not None else why for value, why in both]
            yield _joined(_list(values), _list(spread(found.keys, statuses)), times)
        else:
            yield _joined(_list(values), present, times)


def _as_numbers(view: PlannedView, columns: list[list[Any]]) -> list[list[Any]]:
    """Columns as JSON has them: times are whole seconds since 1970, as in Feast's messages."""
    if not view.timestamps:
        return columns
    return [
        [None if time is None else seconds_of(time) for time in column]
        if label in view.timestamps
        else column
        for label, column in zip(view.features.labels, columns, strict=True)
    ]


def _joined(values: str, statuses: str, times: str) -> str:
    return f'{{"values":{values},"statuses":{statuses},"event_timestamps":{times}}}'


def _list(texts: Sequence[str]) -> str:
    return f"[{','.join(texts)}]"


def _absent(found: ViewAnswer) -> list[str]:
    """Why a value of each row is missing, if it is."""
    return [
        '"NOT_FOUND"'
        if row is None
        else '"OUTSIDE_MAX_AGE"'
        if n in found.expired
        else '"NULL_VALUE"'
        for n, row in enumerate(found.found)
    ]


def _time(row: Row | None) -> str:
    """The time of a row as protobuf writes it: with thousandths or millionths where it has any."""
    if row is None:
        return BEGINNING
    micros = row.event_time_us % 1_000_000
    whole = moment_of(row.event_time_us - micros).isoformat()[:19]
    if micros == 0:
        return f"{whole}Z"
    return f"{whole}.{micros // 1000:03d}Z" if micros % 1000 == 0 else f"{whole}.{micros:06d}Z"

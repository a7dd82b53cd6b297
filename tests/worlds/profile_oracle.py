"""The state of users by brute force: a fold over dictionaries, then one row at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.profiles.writer import ProfileChange, ProfileWriter

ENGINE = Engine(MODEL_VIEW)
FOLLOWS = {"education": "education_num", "education_num": "education"}


@dataclass(frozen=True)
class FullRow:
    """A whole row from a source; of two at the same time the later in a list counts."""

    key: int
    time: datetime
    attributes: Mapping[str, Any]


def state(
    key: int, at: datetime, full: Sequence[FullRow], changes: Sequence[ProfileChange]
) -> np.ndarray | None:
    """The vector of a user at a time; None before the first row."""
    known = [(row.time, 0, "", n, row) for n, row in enumerate(full)]
    known += [(change.time, 1, change.event_id, 0, change) for change in changes]
    known = sorted((item for item in known if item[-1].key == key and item[0] <= at), key=by_order)
    if not known:
        return None
    attributes: dict[str, Any] = {}
    for *_, item in known:
        if isinstance(item, FullRow):
            attributes = dict(item.attributes)
            continue
        for name in item.attributes:
            if FOLLOWS.get(name, name) not in item.attributes:
                attributes.pop(FOLLOWS[name], None)
        attributes |= item.attributes
    return ENGINE.row(attributes)


def by_order(item: tuple[Any, ...]) -> tuple[Any, ...]:
    return item[:4]


def as_matrix(rows: Sequence[FullRow]) -> FeatureMatrix:
    """Full rows as the batch pipeline appends them."""
    values = np.array([ENGINE.row(row.attributes) for row in rows], dtype=np.float32)
    keys = np.array([row.key for row in rows], dtype=np.int64)
    times = np.array([row.time.replace(tzinfo=None) for row in rows], dtype="datetime64[us]")
    return FeatureMatrix(values.reshape(len(rows), 47), keys, times, MODEL_VIEW.schema)


def bring_in(
    writer: ProfileWriter,
    full: Sequence[Any],
    changes: Sequence[ProfileChange],
    append: Callable[..., None],
    order: random.Random,
    now: datetime,
) -> None:
    """Append full rows and apply changes in any order and portions, half of the changes twice."""
    steps: list[Any] = [*full, *changes, *order.sample(changes, len(changes) // 2)]
    order.shuffle(steps)
    while steps:
        portion = [steps.pop() for _ in range(order.randint(1, len(steps)))]
        rows = [step for step in portion if not isinstance(step, ProfileChange)]
        if rows:
            append(writer, *rows)
        writer.apply([step for step in portion if isinstance(step, ProfileChange)], now)

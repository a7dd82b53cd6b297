"""Rows with columns of all types that there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.view import FeatureView


def account_view() -> FeatureView:
    view = FeatureView("accounts", "user_id", missing=("?",))
    view.raw("age", integer=True, valid_range=(0, 120), description="Age.")
    view.raw("city", open_to=10, description="Where they live.")
    view.raw("member", boolean=True, description="Whether a member.")
    view.array("taste", 4, description="What they like.")
    view.lookup("balance", "float64", unit="EUR", description="What is there.")
    view.lookup("account", "int64", description="The account's number.")
    view.lookup("nick", "string", description="What friends say.")
    view.lookup("opened", "timestamp", description="When it was opened.")
    view.lookup("closed", "timestamp", description="When it was closed.")

    @view.feature(unit="d")
    def lasted_days(opened, closed):
        "How long it was open."
        return ((closed - opened) / np.timedelta64(1, "D")).astype(np.float32)

    return view


VIEW = account_view()
SCHEMA = VIEW.schema
WORDS = {"city": ("Paris", "Oslo")}
"""What models know; `random_rows` have a further one, with the code 4."""
OPENED, CLOSED = "2026-01-05T00:00:00.000001Z", "2026-01-15T12:00:00Z"
ATTRIBUTES: dict[str, Any] = {
    **{"age": 40, "city": "Oslo", "member": True, "taste": [0.5, -0.25, 0.1, 3], "balance": 0.1},
    **{"opened": OPENED, "closed": CLOSED},
}


def random_rows(n: int = 300) -> FeatureMatrix:
    """Rows of users 1…n; the first is `ATTRIBUTES`."""
    random, engine = np.random.default_rng(3), Engine(VIEW.with_words(WORDS))
    values = random.normal(size=(n, len(SCHEMA))).astype(np.float32)
    values[:, SCHEMA.position("member")] = random.integers(0, 2, n)
    values[:, SCHEMA.position("city")] = random.integers(0, 5, n)
    values[0] = engine.row(ATTRIBUTES)
    exact = np.full((n, len(SCHEMA.exact)), None, dtype=object)
    given = {"account": 2**63 - 1, "nick": "Zoë", **ATTRIBUTES}
    exact[0] = [column.read(given[column.name]) for column in SCHEMA.exact]
    times = np.full(n, np.datetime64("2026-01-01", "us"))
    schema = SCHEMA.with_words(WORDS)
    return FeatureMatrix(values, np.arange(1, n + 1), times, schema, exact)

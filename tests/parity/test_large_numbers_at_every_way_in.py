"""A whole number keeps its digits or is refused, however large, whatever way it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast.protos.feast.types.Value_pb2 import Value
from pydantic import ValidationError

from feature_store.definitions.engine import Engine
from feature_store.definitions.validation import Reasons
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.ingest.parsing import clean, parse_numbers
from feature_store.sources.http import _frame as records_of_http
from feature_store.stream.events import EventParser
from models.registry.pyfunc_loader import encode
from pipelines.batch.errors import InputUnusable
from pipelines.batch.features import EngineeredFeatures
from serving.bodies.request_schema import request_schema, to_request

VIEW = FeatureView("amounts", "user_id")
VIEW.raw("amount", description="How much.")
[AMOUNT] = VIEW.raw_features
ENGINE = Engine(VIEW)
SCHEMA = request_schema(VIEW)
REFUSALS = (FeatureStoreError, InputUnusable, ValidationError, ValueError)

WHOLE = {
    "16777216": True,
    "16777217": False,
    "9007199254740992": True,
    "9007199254740993": False,
    "9007199254740994": False,
    "-9007199254740993": False,
    "9223372036854775807": False,
    "4611686018427387904": True,  # 2**62
    "1267650600228229401496703205376": True,  # 2**100
    "1267650600228229401496703205377": False,
}
"""Whole numbers, and whether a float32 holds them."""
FLOATS = ("0.1", "6.02e23", "9007199254740994.0", "1e20")


def parsed(column: pl.Series) -> float:
    """What a source's column ``(n,)`` is read as; the first value of it."""
    reasons: Reasons = {}
    values = parse_numbers(AMOUNT, clean(column, ()), reasons)
    if reasons:
        raise ValueError(reasons[0])
    return float(values[0])


def event(text: str) -> float:
    fields = {"kind": "profile", "event_id": "e", "user_id": "7"}
    fields |= {"event_timestamp": "2026-01-05T10:00:00Z", "attributes": f'{{"amount": {text}}}'}
    change = EventParser(VIEW).parse({k.encode(): v.encode() for k, v in fields.items()})
    return float(np.float32(AMOUNT.encode(change.attributes["amount"])))


def request(text: str) -> float:
    body = SCHEMA.read_json(f'{{"amount": {text}}}'.encode())
    return float(ENGINE.row(to_request(body, VIEW.key).attributes)[0])


def pushed(value: Any) -> float:
    kind = "int64_val" if isinstance(value, int) else "double_val"
    return float(ValueCodec(VIEW.schema).read({"amount": Value(**{kind: value})})[0][0])


def batch(values: list[Any]) -> float:
    rows = pa.table({"amount": pa.array(values)})
    found = EngineeredFeatures(VIEW.schema, ENGINE)(np.arange(len(values)), rows, "a file")
    return float(found.values[0, 0])


def frame(values: list[Any], kind: str | None) -> float:
    return float(encode(pd.Series(values, dtype=kind), AMOUNT.meaning)[0])


TEXTUAL: dict[str, Callable[[str], float]] = {
    "a text of CSV": lambda text: parsed(pl.Series([f" {text} "])),
    "JSON over HTTP": lambda text: parsed(
        records_of_http([{"amount": json.loads(text)}], ["amount"])["amount"]
    ),
    "an event": event,
    "a request": request,
}
TYPED: dict[str, Callable[[Any], float]] = {
    "Parquet or SQL": lambda value: parsed(pl.Series([value])),
    "beside a null": lambda value: parsed(pl.Series([value, None])),
    "a push of Feast": pushed,
    "a batch": lambda value: batch([value]),
    "a batch beside a null": lambda value: batch([value, None]),
    "a frame for a stock client": lambda value: frame([value], None),
    "a nullable frame": lambda value: frame(
        [value, None], "Int64" if isinstance(value, int) else "Float64"
    ),
}


WAYS = {
    **TEXTUAL,
    **{name: lambda text, read=read: read(int(text)) for name, read in TYPED.items()},
    "numeric of SQL": lambda text: parsed(pl.Series([Decimal(text)])),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_number_keeps_its_digits_or_is_refused(way: str) -> None:
    for text, is_held in WHOLE.items():
        if way in TYPED and abs(int(text)) >= 2**63:
            continue  # has no such type
        if is_held:
            assert int(WAYS[way](text)) == int(text)
        else:
            with pytest.raises(REFUSALS, match=r"(?s)amount.*(whole number|float32|expected)"):
                WAYS[way](text)


@pytest.mark.parametrize("way", [*TEXTUAL, *TYPED])
def test_a_float_is_rounded_to_a_float32(way: str) -> None:
    for text in FLOATS:
        found = TEXTUAL[way](text) if way in TEXTUAL else TYPED[way](float(text))
        assert found == float(np.float32(float(text)))

"""One row, any slice and the whole table give the same bits for every feature."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from feature_store.definitions.engine import BLOCK_ROWS, Engine
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.rows import random_columns
from tests.worlds.strategies import bits, encoded, raw_rows

ENGINE = Engine(MODEL_VIEW)


@given(rows=st.lists(raw_rows(), min_size=1, max_size=40), cut=st.data())
@settings(max_examples=150)
def test_one_row_any_slice_and_the_table_have_the_same_bits(
    rows: list[dict[str, Any]], cut: st.DataObject
) -> None:
    columns = encoded(rows)
    table = bits(ENGINE.table(columns))
    assert table.shape == (len(rows), 47)
    for place, row in enumerate(rows):
        assert np.array_equal(bits(ENGINE.row(row)), table[place])
    assert np.array_equal(bits(ENGINE.rows(rows)), table)

    start = cut.draw(st.integers(0, len(rows) - 1))
    part = slice(start, cut.draw(st.integers(start + 1, len(rows))))
    sliced = ENGINE.table({name: column[part] for name, column in columns.items()})
    assert np.array_equal(bits(sliced), table[part])


@given(rows=st.lists(raw_rows(), min_size=1, max_size=20))
@settings(max_examples=50)
def test_strided_reversed_and_misaligned_columns_have_the_same_bits(
    rows: list[dict[str, Any]],
) -> None:
    columns = encoded(rows)
    table = bits(ENGINE.table(columns))
    strided = {name: np.repeat(column, 3)[::3] for name, column in columns.items()}
    backwards = {name: column[::-1] for name, column in columns.items()}
    assert np.array_equal(bits(ENGINE.table(strided)), table)
    assert np.array_equal(bits(ENGINE.table(backwards)), table[::-1])


def test_rows_on_both_sides_of_a_block_have_the_same_bits() -> None:
    columns = random_columns(BLOCK_ROWS + 77)
    table = bits(ENGINE.table(columns))
    for place in [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 76]:
        one = ENGINE.table({name: c[place : place + 1] for name, c in columns.items()})
        assert np.array_equal(bits(one)[0], table[place])


def test_a_stored_vector_overridden_with_its_own_attributes_has_the_same_bits() -> None:
    columns = random_columns(200)
    for vector in ENGINE.table(columns):
        decoded, unseen = ENGINE.schema.decode(vector), "never seen before"
        raw = {
            f.name: unseen if f.kind == "category" and vector[place] == 1 else decoded[f.name]
            for place, f in enumerate(MODEL_VIEW.raw_features)
        }
        assert np.array_equal(bits(ENGINE.override(vector, raw)), bits(vector))


@pytest.mark.parametrize("disabled", ["", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_ICL"])
def test_a_processor_without_avx512_computes_the_same_bits(disabled: str) -> None:
    program = (
        "import hashlib\n"
        "from tests.worlds.rows import ENGINE, random_columns\n"
        "from tests.worlds.strategies import bits\n"
        "table = ENGINE.table(random_columns(20_000))\n"
        "print(hashlib.sha256(bits(table).tobytes()).hexdigest())"
    )
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    here = ENGINE.table(random_columns(20_000))
    assert found.stdout.strip() == hashlib.sha256(bits(here).tobytes()).hexdigest()

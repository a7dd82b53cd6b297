"""Keys of a batch: all different, summed up, and cut into chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from pipelines.batch.errors import InputUnusable
from pipelines.batch.inputs import Kind, columns_of, kind_of
from pipelines.batch.keys import (
    KeyReader,
    ascend,
    combine_checksums,
    first_duplicate,
    key_checksum,
    keys_of,
)
from pipelines.batch.plan import ChunkPlanner

KEYS = arrays(np.int64, st.integers(0, 200), elements=st.integers(-(2**63), 2**63 - 1))


@given(KEYS, st.integers(1, 50), st.randoms())
def test_the_checksum_is_that_of_the_parts_in_any_order(keys, rows, random) -> None:
    parts = [keys[start : start + rows] for start in range(0, len(keys), rows)]
    random.shuffle(parts)
    assert combine_checksums(map(key_checksum, parts)) == key_checksum(keys)


@given(st.lists(st.integers(-50, 50), max_size=60), st.integers(1, 9))
def test_a_repeated_key_is_found_wherever_it_lies(found, rows) -> None:
    keys = np.array(found, dtype=np.int64)
    blocks = [keys[start : start + rows] for start in range(0, len(keys), rows)]
    twice = first_duplicate(blocks)
    if len(set(found)) == len(found):
        assert twice is None
    else:
        assert found.count(twice) > 1


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=300), st.integers(1, 40), st.data())
def test_chunks_of_the_store_hold_each_key_once(found, chunk_rows, data) -> None:
    keys = np.array(sorted(found), dtype=np.int64)
    cuts = data.draw(st.lists(st.integers(0, len(keys)), max_size=5).map(sorted))
    limit = data.draw(st.none() | st.integers(1, 400))
    planner = ChunkPlanner(chunk_rows, limit)
    planner.cut_keys(iter(np.split(keys, cuts)))
    wanted = keys[:limit]
    held = [wanted[(wanted >= c.start) & (wanted <= c.stop)] for c in planner.chunks]
    assert np.array_equal(np.concatenate(held), wanted)
    assert [len(each) for each in held] == [chunk.rows for chunk in planner.chunks]
    assert max(chunk.rows for chunk in planner.chunks) <= chunk_rows
    assert (planner.rows, planner.checksum) == (len(wanted), key_checksum(wanted))
    assert planner.ascends == ascend(wanted, None)


@given(st.integers(0, 5_000), st.integers(1, 700))
def test_chunks_of_a_file_are_equally_long_and_cover_it(n, chunk_rows) -> None:
    planner = ChunkPlanner(chunk_rows, None)
    planner.cut_file(0, [np.arange(n, dtype=np.int64)])
    rows = [chunk.rows for chunk in planner.chunks]
    assert sum(rows) == n
    assert [chunk.start for chunk in planner.chunks] == [sum(rows[:i]) for i in range(len(rows))]
    assert max(rows, default=0) <= chunk_rows
    assert len(set(rows[:-1])) <= 1


@pytest.mark.parametrize("column", [[1.0, 2.0], [" 1.0", "2"], [1, 2]])
def test_whole_numbers_may_carry_a_fraction_of_zero(column: list[object]) -> None:
    assert keys_of(pa.chunked_array([column]), "user_id", "a file").tolist() == [1, 2]


def test_a_float_that_has_lost_digits_is_no_key() -> None:
    with pytest.raises(InputUnusable, match=r"above 2\*\*53"):
        keys_of(pa.chunked_array([[2.0**60]]), "user_id", "a file")


PLANE = Entity("tail_number", key="string")
ROUTE = Entity("route", key={"origin": "string", "gate": "integer"})


@pytest.mark.parametrize(
    ("entity", "columns", "texts"),
    [
        (PLANE, {"tail_number": [" N1", "n1"]}, ["N1", "n1"]),
        (ROUTE, {"origin": ["JFK", "LAX"], "gate": [7.0, 7.0]}, ['["JFK",7]', '["LAX",7]']),
        (ROUTE, {"origin": ["JFK", "LAX"], "gate": ["7", "8"]}, ['["JFK",7]', '["LAX",8]']),
    ],
)
def test_a_key_of_texts_or_of_parts_is_read_and_written_as_it_is(entity, columns, texts) -> None:
    reader, rows = KeyReader(entity), pa.table(columns)
    assert reader.read(rows, "a file").tolist() == entity.identities(texts).tolist()
    assert reader.texts(rows, "a file") == texts
    written = reader.table(texts)
    assert written.column_names == list(entity.columns)
    assert reader.read(written, "the output").tolist() == entity.identities(texts).tolist()


def test_a_key_of_another_type_is_named_with_its_row() -> None:
    with pytest.raises(InputUnusable, match="Row 12 of a file: tail_number is missing, expected"):
        KeyReader(PLANE).read(pa.table({"tail_number": ["N1", None]}), "a file", 11)
    with pytest.raises(InputUnusable, match="Row 1 of a file: tail_number is '5', expected a text"):
        KeyReader(PLANE).read(pa.table({"tail_number": [5]}), "a file")


def test_what_an_input_holds_follows_from_the_columns_beside_its_key() -> None:
    view = FeatureView("routes", ROUTE)
    view.raw("origin", categories=("JFK", "LAX"), description="A part of the key, too.")
    view.raw("distance", description="Far.")
    names = ("origin", "gate")
    assert kind_of(names, view, view.schema, "a file") is Kind.entities
    assert columns_of(Kind.entities, names, view, view.schema) == ["origin", "gate"]
    more = (*names, "distance")
    assert kind_of(more, view, view.schema, "a file") is Kind.features
    assert columns_of(Kind.features, more, view, view.schema) == ["origin", "gate", "distance"]
    with pytest.raises(InputUnusable, match="has no column 'gate'"):
        kind_of(("origin", "distance"), view, view.schema, "a file")

"""What is particular to files: growth, order, headings, quotes, rows of another width, names."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.sources import FileReading, SourceFile
from feature_store.errors import SourceError
from feature_store.sources import delimited
from feature_store.sources.files import FileSource
from feature_store.sources.port import Batch, Position


def source(folder: Path, *paths: str, is_counted: bool = True, **settings: Any) -> FileSource:
    files = tuple(SourceFile(path=path) for path in paths or ("*.csv",))
    config = FileReading(files=files, **settings)
    return FileSource(config, folder, {}, is_counted=is_counted)


def read(source: FileSource, after: Position | None = None) -> tuple[list[Batch], Position]:
    reading = source.read(after)
    batches = list(reading)
    return batches, json.loads(json.dumps(reading.position))


def rows(batches: list[Batch]) -> list[tuple[int, str, int, str]]:
    """(ordinal, file, line, first column) of every row."""
    return [
        (int(ordinal), batch.source, int(line), batch.columns.to_series(0)[place])
        for batch in batches
        for place, (ordinal, line) in enumerate(zip(batch.ordinals, batch.row_numbers, strict=True))
    ]


def write(path: Path, text: str, *, age_s: float = 60) -> None:
    path.write_text(text)
    touch(path, age_s)


def touch(path: Path, age_s: float = 60) -> None:
    moment = time.time() - age_s
    os.utime(path, (moment, moment))


def test_what_is_added_to_a_text_is_read_and_counted_on(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n2,b\n")
    _, position = read(source(tmp_path))
    write(tmp_path / "a.csv", "x,y\n1,a\n2,b\n\n3,c\n", age_s=30)
    batches, _ = read(source(tmp_path), position)
    assert rows(batches) == [(3, "a.csv", 5, "3")]
    assert batches[0].columns.columns == ["x", "y"]


def test_a_last_line_without_an_end_is_read_again_when_more_is_written_to_it(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n2,b")
    batches, position = read(source(tmp_path))
    assert [row[3] for row in rows(batches)] == ["1", "2"]
    write(tmp_path / "a.csv", "x,y\n1,a\n2,better\n3,c\n", age_s=30)
    batches, _ = read(source(tmp_path), position)
    assert [row[:1] + row[3:] for row in rows(batches)] == [(2, "2"), (3, "3")]
    assert batches[0].columns["y"].to_list() == ["better", "c"]


def test_a_gzipped_text_may_grow_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n1,a\n"))
    _, position = read(source(tmp_path, "a.csv.gz"))
    with (tmp_path / "a.csv.gz").open("ab") as file:
        file.write(gzip.compress(b"2,b\n"))
    batches, _ = read(source(tmp_path, "a.csv.gz"), position)
    assert rows(batches) == [(2, "a.csv.gz", 3, "2")]


def test_a_file_that_was_only_touched_or_just_written_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n", age_s=0)
    _, position = read(source(tmp_path))
    assert position["files"][0]["modified_ns"] is None
    assert rows(read(source(tmp_path), position)[0]) == []
    touch(tmp_path / "a.csv", age_s=30)
    assert rows(read(source(tmp_path), position)[0]) == []


def test_a_file_that_changed_within_one_tick_of_its_clock_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n", age_s=0)
    before = (tmp_path / "a.csv").stat()
    _, position = read(source(tmp_path))
    (tmp_path / "a.csv").write_text("x,y\n1,z\n")
    os.utime(tmp_path / "a.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    batches, _ = read(source(tmp_path), position)
    assert [batch.columns["y"].to_list() for batch in batches] == [["z"]]


def test_a_correction_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n")
    before = (tmp_path / "a.csv").stat()
    _, position = read(source(tmp_path))
    assert position["files"][0]["modified_ns"] is not None
    assert rows(read(source(tmp_path), position)[0]) == []
    (tmp_path / "a.csv").write_text("x,y\n1,z\n")
    os.utime(tmp_path / "a.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    batches, _ = read(source(tmp_path), position)
    assert [batch.columns["y"].to_list() for batch in batches] == [["z"]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("39,Private,39\n40,Private,12\n", "the name '39' 2 times in its heading: 39, Private, 39"),
        ("x,y,x\n1,2,3\n", "the name 'x' 2 times"),
        ("x,,y\n1,2,3\n", "a column without a name in its heading"),
        ("x,y,\n1,2,\n", "a column without a name"),
    ],
)
def test_a_heading_that_names_a_column_twice_or_is_none_is_refused_in_one_line(
    tmp_path: Path, text: str, what: str
) -> None:
    write(tmp_path / "a.csv", text)
    with pytest.raises(SourceError, match=what) as caught:
        read(source(tmp_path))
    assert "name its columns in 'source.columns'" in str(caught.value)


def test_a_parquet_file_that_names_a_column_twice_is_refused_in_one_line(tmp_path: Path) -> None:
    columns = [pa.array([1]), pa.array([2])]
    pq.write_table(pa.Table.from_arrays(columns, names=["x", "x"]), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="the name 'x' 2 times in its heading"):
        read(source(tmp_path, "a.parquet"))


def test_a_file_shorter_than_its_lines_to_skip_has_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "one line\n")
    file = SourceFile(path="a.csv", skip_lines=3)
    assert read(FileSource(FileReading(files=(file,)), tmp_path, {}))[0] == []


def test_a_pattern_that_no_file_matches_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No file matches .*/\*\.csv") as caught:
        read(source(tmp_path))
    assert "git" not in str(caught.value)


def test_where_rows_are_counted_all_that_stands_after_a_change_is_read_again(
    tmp_path: Path,
) -> None:
    write(tmp_path / "b.csv", "x,y\n1,a\n")
    write(tmp_path / "d.csv", "x,y\n2,b\n")
    _, position = read(source(tmp_path))
    write(tmp_path / "c.csv", "x,y\n9,n\n")
    increment, _ = read(source(tmp_path), position)
    assert rows(increment) == [(2, "c.csv", 2, "9"), (3, "d.csv", 2, "2")]
    whole, _ = read(source(tmp_path))
    assert rows(increment) == rows(whole)[1:]
    keyed = source(tmp_path, is_counted=False)
    assert [row[3] for row in rows(read(keyed, position)[0])] == ["9"]


def test_a_rewritten_file_is_read_from_its_start(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x,y\n1,a\n2,b\n")
    _, position = read(source(tmp_path))
    write(tmp_path / "a.csv", "x,y\n1,z\n2,b\n3,c\n", age_s=30)
    batches, _ = read(source(tmp_path), position)
    assert [row[3] for row in rows(batches)] == ["1", "2", "3"]


def test_globs_name_rows_by_what_differs_and_come_in_order(tmp_path: Path) -> None:
    for name in ("2026/02/p.csv", "2026/01/p.csv", "2026/01/q.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, "x,y\n1,a\n")
    batches, _ = read(source(tmp_path, "2026/**/*.csv"))
    assert [row[:2] for row in rows(batches)] == [(1, "01/p.csv"), (2, "02/p.csv")]
    batches, _ = read(source(tmp_path, "2026/0?/p.csv", "2026/01/p.csv"))
    assert len(rows(batches)) == 2


@pytest.mark.parametrize("quote", ["", '"'])
def test_rows_of_another_width_are_told_apart_with_and_without_quotes(
    tmp_path: Path, quote: str
) -> None:
    write(tmp_path / "a.csv", f"x;y\n1;{quote}a{quote}\n\n 2 ; b ; c\n3\n4;d\n")
    [batch], _ = read(source(tmp_path, delimiter=";"))
    assert batch.row_numbers.tolist() == [2, 4, 5, 6]
    assert {place: broken.reason for place, broken in batch.broken.items()} == {
        1: "the row has 3 fields, expected 2",
        2: "the row has 1 fields, expected 2",
    }
    assert batch.broken[1].raw == {"x": "2", "y": "b"}
    assert batch.columns["y"].to_list()[0::3] == ["a", "d"]


def test_quoted_fields_hold_delimiters_and_ends_of_lines_even_between_two_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 16)
    monkeypatch.setattr(delimited, "QUOTED_BYTES", 256)
    text = 'x,y\n1,"a, ""b"""\n2,"two\nlines and more"\n3,c\n'
    write(tmp_path / "a.csv", text)
    batches, _ = read(source(tmp_path))
    values = [value for batch in batches for value in batch.columns["y"].to_list()]
    assert values == ['a, "b"', "two\nlines and more", "c"]
    assert [row[2] for row in rows(batches)] == [2, 3, 5]


@pytest.mark.parametrize("block_bytes", [1, 3, 7, 64, 1 << 20])
def test_the_size_of_blocks_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    lines = [f"{n},{'é' * (n % 7)}{n}" for n in range(50)]
    write(tmp_path / "a.csv", "\ufeffx,y\r\n" + "\r\n".join(lines))
    whole, position = read(source(tmp_path))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", block_bytes)
    parts, same = read(source(tmp_path))
    assert rows(parts) == rows(whole)
    assert same == position
    assert pl.concat([batch.columns for batch in parts]).equals(
        pl.concat([batch.columns for batch in whole])
    )


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,a\n2,\xff\n")
    with pytest.raises(SourceError, match="not UTF-8 text: line 3 has the byte 0xff"):
        read(source(tmp_path))


def test_a_hash_is_checked_for_parquet_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for sha256, is_good in ((digest, True), ("0" * 64, False)):
        config = FileReading(files=(SourceFile(path="a.parquet", sha256=sha256),))
        reading = FileSource(config, tmp_path, {}).read()
        if is_good:
            assert [len(batch) for batch in reading] == [1]
        else:
            with pytest.raises(SourceError, match=f"has SHA-256 {digest}, expected 0000"):
                list(reading)

"""The input: which files a path or glob stands for, and their rows as Arrow tables, in order."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.sources.filesystems import S3, local_filesystem, matches, s3_filesystem
from pipelines.batch.errors import InputUnusable
from pipelines.batch.folders import translate_errors

if TYPE_CHECKING:
    import pyarrow as pa


READ_ROWS = 32_768
"""Rows that are decoded together."""
BUFFER_BYTES = 1 << 20
"""So much of a column is read ahead: a row group may be larger than memory."""
CSV_BLOCK_BYTES = 4 << 20
PARQUET, TEXT = (".parquet", ".pq"), (".csv", ".csv.gz")


@dataclass(frozen=True)
class InputFile:
    """A file of the input.

    Parameters
    ----------
    path
        As a person would write it: ``s3://…`` or a path.
    size, modified_ns
        By which a later run sees that it is still the same.
    """

    path: str
    size: int
    modified_ns: int

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; otherwise it is delimited text with names in its first line."""
        return self.path.endswith(PARQUET)


class OpenFile:
    """Reads one file.

    Parameters
    ----------
    file
        Which.
    rename
        The input's name of a column -> ours; hyphens become underscores by themselves.
    environment
        Has the ``AWS_…`` variables when it is in S3.
    """

    def __init__(
        self, file: InputFile, rename: Mapping[str, str], environment: Mapping[str, str]
    ) -> None:
        self.file = file
        self.rename = rename
        self.environment = environment

    @cached_property
    def schema(self) -> pa.Schema:
        """Names, as we call them, and types.

        Raises
        ------
        InputUnusable
            If it cannot be read, or two columns would have the same name.
        """
        import pyarrow as pa

        with translate_errors(self.file.path, InputUnusable):
            native = self._native_schema
        ours = [self._ours(name) for name in native.names]
        twice = [name for name in ours if ours.count(name) > 1]
        if twice:
            raise InputUnusable(f"{self.file.path} has two columns '{twice[0]}'. Rename one.")
        return pa.schema([pa.field(n, f.type) for n, f in zip(ours, native, strict=True)])

    def batches(self, columns: Sequence[str], start: int = 0) -> Iterator[pa.RecordBatch]:
        """Some columns from row ``start`` on, some ten thousand rows at a time.

        Raises
        ------
        InputUnusable
            If the file is damaged.
        """
        native = dict(zip(self.schema.names, self._native_schema.names, strict=True))
        wanted = [native[name] for name in columns]
        with translate_errors(self.file.path, InputUnusable):
            read = self._parquet if self.file.is_parquet else self._text
            for batch in read(wanted, start):
                yield batch.select(wanted).rename_columns(list(columns))

    def _ours(self, name: str) -> str:
        clean = name.strip()
        return self.rename.get(clean, clean.replace("-", "_"))

    @cached_property
    def _native_schema(self) -> pa.Schema:
        if self.file.is_parquet:
            import pyarrow.parquet as pq

            return pq.read_schema(self._open())
        import pyarrow as pa
        import pyarrow.csv

        with self._stream() as stream:
            reader = pyarrow.csv.open_csv(stream, parse_options=self._parse())
            return pa.schema([pa.field(name, pa.string()) for name in reader.schema.names])

    def _parquet(self, wanted: list[str], start: int) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        table = pq.ParquetFile(self._open(), pre_buffer=False, buffer_size=BUFFER_BYTES)
        groups: list[int] = []
        skip = start
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if not groups and skip >= rows:
                skip -= rows
                continue
            groups.append(group)
        if groups:
            read = table.iter_batches(READ_ROWS, groups, wanted, use_threads=False)
            yield from _without_first(read, skip)

    def _text(self, wanted: list[str], start: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.csv as csv

        texts = dict.fromkeys(self._native_schema.names, pa.string())
        with self._stream() as stream:
            reader = csv.open_csv(
                stream,
                read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES, use_threads=False),
                parse_options=self._parse(),
                convert_options=csv.ConvertOptions(column_types=texts, include_columns=wanted),
            )
            yield from _without_first(iter(reader), start)

    @staticmethod
    def _parse() -> Any:
        import pyarrow.csv

        return pyarrow.csv.ParseOptions(newlines_in_values=True)

    @property
    def _filesystem(self) -> Any:
        in_s3 = self.file.path.startswith(S3)
        return s3_filesystem(self.environment) if in_s3 else local_filesystem()

    def _open(self) -> Any:
        return self._filesystem.open_input_file(self.file.path.removeprefix(S3))

    def _stream(self) -> Any:
        opened = self._open()
        return gzip.open(opened) if self.file.path.endswith(".gz") else opened


class RowStream:
    """Rows of a file from one on, as many at a time as are asked for."""

    def __init__(self, file: OpenFile, columns: Sequence[str], start: int) -> None:
        self._batches = file.batches(columns, start)
        self._rest: list[pa.RecordBatch] = []

    def take(self, rows: int) -> pa.Table:
        """The next rows; fewer at the end of the file."""
        import pyarrow as pa

        taken, self._rest, missing = self._rest, [], rows - sum(map(len, self._rest))
        while missing > 0 and (batch := next(self._batches, None)) is not None:
            taken.append(batch)
            missing -= len(batch)
        if missing < 0:
            last = taken.pop()
            taken.append(last[:missing])
            self._rest = [last[len(last) + missing :]]
        return pa.Table.from_batches(taken)


def input_files(places: Sequence[str], environment: Mapping[str, str]) -> list[InputFile]:
    """All files of some paths, folders and globs, in their order; a folder means its Parquet.

    Raises
    ------
    InputUnusable
        If a place stands for no file, or cannot be reached, or a file is of another kind.
    """
    found: dict[str, InputFile] = {}
    for place in places:
        files = _files_of(place, environment)
        if not files:
            raise InputUnusable(f"No file is at {place}. Name Parquet or CSV files, or a glob.")
        found |= {file.path: file for file in files}
    for path in found:
        if not path.endswith(PARQUET + TEXT):
            expected = ", ".join(PARQUET + TEXT)
            raise InputUnusable(
                f"{path} is of no known kind; expected a name ending in {expected}."
            )
    return list(found.values())


def _files_of(place: str, environment: Mapping[str, str]) -> list[InputFile]:
    in_s3 = place.startswith(S3)
    prefix = S3 if in_s3 else ""
    with translate_errors(place, InputUnusable):
        filesystem = s3_filesystem(environment) if in_s3 else local_filesystem()
        path = place.removeprefix(S3).rstrip("/") if in_s3 else str(Path(place).absolute())
        if filesystem.get_file_info(path).type.name == "Directory":
            path += "/**/*.parquet"
        if in_s3 and filesystem.get_file_info(path.split("/")[0]).type.name == "NotFound":
            raise InputUnusable(f"{place} cannot be read: there is no such bucket.")
        return [
            InputFile(prefix + info.path, info.size, info.mtime_ns)
            for info, name in matches(filesystem, path)
            if not any(part.startswith((".", "_")) for part in name.split("/"))
        ]


def _without_first(batches: Iterator[pa.RecordBatch], skip: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if skip < len(batch):
            yield batch[skip:] if skip else batch
        skip = max(0, skip - len(batch))


class Kind(StrEnum):
    """What is known of each row."""

    features = "features"
    """Everything that the model takes."""
    attributes = "raw attributes"
    """Raw attributes, from which the features are computed."""
    entities = "entity ids"
    """Whom it is about: the features are in the offline store."""
    everybody = "all entities of the offline store"

    @property
    def is_stored(self) -> bool:
        """Whether the features are looked up in the offline store."""
        return self in (Kind.entities, Kind.everybody)


def kind_of(names: Collection[str], view: FeatureView, schema: FeatureSchema, path: str) -> Kind:
    """What the columns of an input say of its rows.

    Raises
    ------
    InputUnusable
        If the entity, or some of the attributes, are missing.
    """
    lacking = [name for name in view.key.columns if name not in names]
    if lacking:
        raise InputUnusable(
            f"{path} has no column '{lacking[0]}'; it has {_list(names)}. Add the column, or "
            "rename it with 'source.rename' in the feature settings."
        )
    if set(schema.names) <= {*names, *_arrays_of_places(names, schema)}:
        return Kind.features
    if not (set(view.attributes) - set(view.key.columns)) & set(names):
        return Kind.entities
    absent = [group for group in _groups_of_columns(view) if not set(group) & set(names)]
    if absent:
        missing = ", ".join(" or ".join(group) for group in absent)
        raise InputUnusable(
            f"{path} lacks the columns {missing}. Give all raw attributes, all {len(schema)} "
            f"features, or {' and '.join(view.key.columns)} alone."
        )
    return Kind.attributes


def _arrays_of_places(names: Collection[str], schema: FeatureSchema) -> dict[str, str]:
    """Places of arrays that an input has as one column of lists, each with its array.

    It may have a column for each place as well.
    """
    return {
        place: array
        for array, places in schema.arrays.items()
        if array in names
        for place in places
    }


def _groups_of_columns(view: FeatureView) -> list[tuple[str, ...]]:
    """Columns of which one tells what the others would; see `FeatureView.attribute_groups`."""
    whole = {name: array.name for array in view.arrays.values() for name in array.members}
    timed = {feature.name for feature in view.timed_features}
    groups = [
        tuple(dict.fromkeys(whole.get(name, name) for name in group if name not in timed))
        for group in view.attribute_groups
    ]
    return [*filter(None, groups), *((name,) for name in view.timestamps)]


def columns_of(
    kind: Kind, names: Sequence[str], view: FeatureView, schema: FeatureSchema
) -> list[str]:
    """The columns that are read of an input that has so many, the key first."""
    wanted: list[str] = list(view.key.columns)
    if kind is Kind.features:
        whole = _arrays_of_places(names, schema)
        wanted += [whole.get(name, name) for name in schema.names]
    elif kind is Kind.attributes:
        wanted += [name for name in view.attributes if name in names]
    # A part of the key may be a feature, too.
    return list(dict.fromkeys(wanted))


def _list(names: Collection[str]) -> str:
    shown = list(names)[:10]
    return ", ".join(shown) + (f" and {len(names) - 10} more" if len(names) > 10 else "")

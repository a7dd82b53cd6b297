"""The ``source`` of the feature settings: how raw rows are read, and what their columns mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from configs.section import Section

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_$]*"
LOOKBACK_DEFAULT = 300
"""Transactions that commit out of order do so within minutes."""

ColumnName = Annotated[str, Field(pattern=f"^{IDENTIFIER}$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Names an environment variable; what is in it never stands in a file or a message."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is named {names.count(twice[0])} times")
    return names


ColumnNames = Annotated[tuple[str, ...], AfterValidator(_distinct)]
"""Names of columns, each once."""


class SourceFile(Section):
    """Raw files: a path (relative to the checkout), a glob or ``s3://…``, and what they hold."""

    path: str = Field(min_length=1)
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the decompressed bytes"
    )
    skip_lines: int = Field(0, ge=0)


class FileReading(Section):
    """Delimited files, gzipped when they end in ``.gz``, or Parquet."""

    type: Literal["files"] = "files"
    files: tuple[SourceFile, ...] = Field(min_length=1)
    format: Literal["auto", "csv", "parquet"] = Field(
        "auto", description="auto: Parquet when the name ends in .parquet"
    )
    delimiter: str = Field(",", min_length=1, max_length=1)
    columns: ColumnNames = Field(
        (), description="names, in file order; without them a delimited file's first line names"
    )


class Cursor(Section):
    """The column that tells what is new, and how far behind it late rows are looked for."""

    cursor_column: ColumnName | None = Field(
        None, description="a time or whole number that grows with every change of a row"
    )
    lookback: float = Field(
        LOOKBACK_DEFAULT, ge=0, description="seconds of a time, steps of a whole number"
    )


class SqlReading(Cursor):
    """A table, view or query of a PostgreSQL database."""

    type: Literal["sql"]
    url_env: VariableName | None = Field(
        None, description="the variable that holds the URL; None: the store's own database"
    )
    table: str | None = Field(None, pattern=rf"^{IDENTIFIER}(\.{IDENTIFIER})?$")
    query: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give 'table' or 'query', and not both")
        return self


class HttpReading(Cursor):
    """Pages of JSON records."""

    type: Literal["http"]
    url: str = Field(pattern="^https?://[^/?#@]+([/?#].*)?$", description="without a password")
    records: str = Field("", description="dotted path to the list of records; empty: the answer")
    columns: ColumnNames = Field(
        min_length=1, description="fields of a record; absent ones are missing"
    )
    params: dict[str, str] = Field({}, description="sent with every request")
    since_param: str | None = Field(
        None, description="sent with an increment: the cursor after which to answer"
    )
    paging: Literal["none", "link", "cursor", "page"] = Field(
        "none",
        description="link: 'next_field' or the header Link has the next page's address; cursor: "
        "'next_field' has what 'page_param' is to be; page: 'page_param' counts to an empty page",
    )
    next_field: str = Field("next", description="dotted path")
    page_param: str = "page"
    first_page: int = 1
    auth_env: VariableName | None = Field(None, description="the variable that holds the secret")
    auth_header: str = Field("Authorization", min_length=1)
    auth_scheme: str = Field("Bearer", description="before the secret; empty for none")
    timeout_s: float = Field(10, gt=0, description="for the answer to begin, and between its parts")
    max_tries: int = Field(5, ge=1, le=20)
    max_wait_s: float = Field(30, gt=0, description="longest wait between two tries")

    @model_validator(mode="after")
    def _since_needs_a_cursor(self) -> Self:
        if self.since_param and not self.cursor_column:
            raise ValueError("'since_param' needs 'cursor_column', whose newest value it sends")
        return self


def _typed(value: Any) -> Any:
    """Files are meant where nothing is said."""
    return {"type": "files", **value} if isinstance(value, dict) else value


AnyReading = Annotated[
    Annotated[FileReading | SqlReading | HttpReading, Field(discriminator="type")],
    BeforeValidator(_typed),
]


class ReferenceConfig(Section):
    """A table joined by key to every row of the source: a catalogue."""

    table: AnyReading
    on: str = Field(description="the column that both have")


class Meaning(Section):
    """What the columns of a source mean."""

    name: str | None = Field(None, pattern="^[a-z][a-z0-9_-]*$", description="of its watermark")
    rename: dict[str, str] = Field({}, description="the source's name of a column -> ours")
    key_column: str | tuple[str, ...] | None = Field(
        None,
        description="or the columns of a key of several parts, in the order of the entity's "
        "definition; None: rows are counted in file order",
    )
    event_time_column: str | None = Field(None, description="None: spread by 'event_time'")
    label_column: str | None = None
    label_values: dict[str, Literal[0, 1]] = Field({}, description="text in the source -> 0 or 1")
    reference: ReferenceConfig | None = None

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that hold the key; none when rows are counted."""
        if self.key_column is None:
            return ()
        return (self.key_column,) if isinstance(self.key_column, str) else self.key_column

    @model_validator(mode="before")
    @classmethod
    def _marks_are_defined(cls, values: Any) -> Any:
        if isinstance(values, dict) and "missing" in values:
            raise ValueError(
                "'missing' belongs to the definition of the features, so that requests and events "
                'are read alike: FeatureView(…, missing=("?",)), or raw(…, missing=("n/a",)) of '
                "one column"
            )
        return values

    @model_validator(mode="after")
    def _labels_are_explained(self) -> Self:
        if self.label_column is not None and not self.label_values:
            raise ValueError("'label_column' needs 'label_values': which texts are 0 and 1")
        return self


class _Keyed(Meaning):
    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.key_column is None:
            raise ValueError("needs 'key_column': its rows come in no fixed order to count them")
        return self


class FileSourceConfig(FileReading, Meaning):
    """Raw rows out of files."""


class SqlSourceConfig(SqlReading, _Keyed):
    """Raw rows out of a database."""


class HttpSourceConfig(HttpReading, _Keyed):
    """Raw rows out of an API."""


SourceConfig = Annotated[
    Annotated[FileSourceConfig | SqlSourceConfig | HttpSourceConfig, Field(discriminator="type")],
    BeforeValidator(_typed),
]

"""A catalogue joined by key to the rows of another source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from feature_store.errors import SourceError
from feature_store.sources.port import Batch, Batches, Position, Reading, Source

if TYPE_CHECKING:
    import polars as pl


class ReferenceSource:
    """The rows of a source with the columns of a catalogue beside their own.

    A key that the catalogue lacks gives missing values. The catalogue is read as a whole each
    time; a change in it reaches rows that are read after it.

    Parameters
    ----------
    source
        Whose rows, keys and position these are.
    catalogue
        Read into memory.
    on
        The column that both have.
    """

    def __init__(self, source: Source, catalogue: Source, on: str) -> None:
        self.source = source
        self.catalogue = catalogue
        self.on = on
        self.name = source.name

    def read(self, after: Position | None = None) -> Reading:
        """Read what the source gives, with the catalogue's columns."""
        return Reading(self._batches(after))

    def _batches(self, after: Position | None) -> Batches:
        catalogue = self._catalogue()
        reading = self.source.read(after)
        for batch in reading:
            if (yield replace(batch, columns=self._joined(batch, catalogue))):
                reading.hold_back()
        return reading.position

    def _catalogue(self) -> pl.DataFrame:
        import polars as pl

        parts, place = [], []
        for batch in self.catalogue.read():
            if batch.broken:
                first, broken = next(iter(batch.broken.items()))
                raise SourceError(
                    f"The catalogue {batch.source} is bad at {batch.row_numbers[first]}: "
                    f"{broken.reason}. Mend it; every row of the source depends on it."
                )
            self._require(batch)
            place += [f"{batch.source} {number}" for number in batch.row_numbers.tolist()]
            parts.append(batch.columns.with_columns(_key(self.on)))
        if not parts:
            raise SourceError(f"The catalogue '{self.catalogue.name}' has no rows.")
        whole = pl.concat(parts).with_columns(pl.Series("_place", place))
        _refuse_twice(whole.filter(pl.col(self.on).is_not_null()), self.on)
        return whole.drop("_place")

    def _joined(self, batch: Batch, catalogue: pl.DataFrame) -> pl.DataFrame:
        self._require(batch)
        both = [name for name in catalogue.columns if name in batch.columns and name != self.on]
        if both:
            raise SourceError(
                f"{batch.source} and its catalogue both have a column '{both[0]}'. Rename one, or "
                "name the catalogue's 'columns' without it."
            )
        left = batch.columns.with_columns(_key(self.on))
        return left.join(catalogue, on=self.on, how="left", maintain_order="left")

    def _require(self, batch: Batch) -> None:
        if self.on not in batch.columns:
            raise SourceError(
                f"{batch.source} has no column '{self.on}' to join the catalogue by. Known: "
                f"{', '.join(batch.columns.columns)}."
            )


def _key(on: str) -> pl.Expr:
    """The key as a text: numbers and texts of two sources meet."""
    import polars as pl

    return pl.col(on).cast(pl.String).str.strip_chars()


def _refuse_twice(catalogue: pl.DataFrame, on: str) -> None:
    import polars as pl

    twice = catalogue.filter(pl.col(on).is_duplicated())
    if len(twice):
        key = twice[on][0]
        places = twice.filter(pl.col(on) == key)["_place"].to_list()
        raise SourceError(
            f"The catalogue has the key '{key}' {len(places)} times: {', '.join(places[:3])}. "
            "Which one is meant cannot be told; remove the others."
        )

"""The read that Feast hands to its caller: it runs when its result is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import OnDemandFeatureView
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    SavedDatasetPostgreSQLStorage,
)
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage, ValidationReference

from feature_store.definitions.cleaning import LARGEST_WHOLE
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.identity import refuse_own_tables
from feature_store.feast_plugin.on_demand import tidy
from feature_store.offline.postgres import IngestMode, Postgres
from feature_store.offline_store import OfflineStore

NULLABLE = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}


def unrounded(table: pa.Table) -> pa.Table:
    """A table whose whole numbers Feast cannot round on the way into its messages.

    It makes float64 of a column of whole numbers in which some are missing. Where that would lose
    digits, they are decimals.

    Examples
    --------
    >>> unrounded(pa.table({"n": [2**53 + 1, None], "m": [1, None]})).schema.types
    [Decimal128Type(decimal128(19, 0)), DataType(int64)]
    """
    for place, column in enumerate(table.columns):
        if column.null_count and pa.types.is_int64(column.type):
            limits = pc.min_max(column).as_py()
            if max(abs(limit or 0) for limit in limits.values()) >= LARGEST_WHOLE:
                exact = column.cast(pa.decimal128(19))
                table = table.set_column(place, table.field(place).name, exact)
    return table


@dataclass
class ArrowRetrievalJob(RetrievalJob):
    """A read that runs when its result is asked for.

    Parameters
    ----------
    read
        Gives the result.
    postgres
        Where `persist` writes.
    given
        Columns that came with the entity rows; they keep the types that they had.
    """

    read: Callable[[], pa.Table]
    postgres: Postgres
    given: Sequence[str] = ()
    full_names: bool = False
    on_demand: list[OnDemandFeatureView] = field(default_factory=list)
    about: RetrievalMetadata | None = None

    def to_df(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pd.DataFrame:
        """Give the result as pandas; whole numbers stay whole beside missing ones (Int64)."""
        table = self.to_arrow(validation_reference, timeout)
        whole = [column.name for column in table.schema if pa.types.is_integer(column.type)]
        whole = [name for name in whole if name not in self.given]
        frame: pd.DataFrame = table.drop_columns(whole).to_pandas()
        numbers = table.select(whole).to_pandas(types_mapper=NULLABLE.get)
        both: pd.DataFrame = pd.concat([frame, numbers], axis=1)[table.column_names]
        return both

    def to_arrow(
        self, validation_reference: ValidationReference | None = None, timeout: int | None = None
    ) -> pa.Table:
        """Give the result as Arrow, on-demand features with it."""
        table = super().to_arrow(validation_reference, timeout)
        return tidy(table, self.on_demand, self.full_names) if self.on_demand else table

    def to_sql(self) -> NoReturn:
        """Refuse: the join is not made in SQL."""
        raise FeatureStoreError(
            "This result has no SQL: rows are joined as they arrive, not in PostgreSQL. Use "
            "`to_arrow`, `to_df` or `persist`."
        )

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # Feast turns only the first chunk of a table into messages.
        return self.read().combine_chunks()

    @property
    def full_feature_names(self) -> bool:
        """Whether the features carry the names of their views."""
        return self.full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that Feast computes from the result."""
        return self.on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self.about

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result into a new table, or over an old one.

        Raises
        ------
        FeatureStoreError
            If the storage is not a table in PostgreSQL, or is one of ours.
        StoreUnavailable
            If the table exists and may not be overwritten.
        """
        if not isinstance(storage, SavedDatasetPostgreSQLStorage):
            raise FeatureStoreError(
                f"A dataset is saved in a SavedDatasetPostgreSQLStorage, not in a "
                f"{type(storage).__name__}."
            )
        table = storage.to_data_source().get_table_query_string()
        refuse_own_tables(table, OfflineStore(self.postgres))
        mode: IngestMode = "replace" if allow_overwrite else "create"
        self.postgres.ingest(table, self.to_arrow(timeout=timeout), mode)

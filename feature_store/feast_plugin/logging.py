"""The table in PostgreSQL to which Feast logs the features that it served."""

from __future__ import annotations

from feast.feature_logging import LoggingDestination
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.protos.feast.core.FeatureService_pb2 import LoggingConfig


class PostgresLoggingDestination(LoggingDestination):
    """A table; it is made when the first logs are written.

    Parameters
    ----------
    table
        Its name.
    """

    _proto_kind = "PostgresLoggingDestination"

    def __init__(self, table: str) -> None:
        self.table = table

    @classmethod
    def from_proto(cls, config_proto: LoggingConfig) -> PostgresLoggingDestination:
        """Read what `to_proto` wrote."""
        return cls(config_proto.custom_destination.config["table"])

    def to_proto(self) -> LoggingConfig:
        """Give the destination as Feast's registry keeps it."""
        custom = LoggingConfig.CustomDestination(
            kind=self._proto_kind, config={"table": self.table}
        )
        return LoggingConfig(custom_destination=custom)

    def to_data_source(self) -> PostgreSQLSource:
        """Give the table as a source, for reading the logs back."""
        return PostgreSQLSource(
            name=self.table, table=self.table, timestamp_field="__log_timestamp"
        )

"""How far each source has been read into each version of a view; it moves only after a run.

A version has watermarks of its own: what an older one has read is not in a newer one.
"""

from __future__ import annotations

import json
from typing import Any

from feature_store.definitions.schema import FeatureSchema
from feature_store.offline.postgres import Postgres
from feature_store.sources.port import Position


class Watermark:
    """The position up to which both stores hold everything of one source.

    Parameters
    ----------
    postgres
        Opens connections to the database.
    schema
        The version of the view.
    source
        The source's name.
    """

    def __init__(self, postgres: Postgres, schema: FeatureSchema, source: str) -> None:
        self.postgres = postgres
        self._key = (schema.view, schema.definition_fingerprint, source)

    def position(self) -> Position | None:
        """Where it stands; None when nothing has been read completely."""
        with self.postgres.transaction() as connection:
            row: Any = connection.execute(
                "SELECT position FROM watermarks WHERE (view, fingerprint, source) = (%s, %s, %s)",
                self._key,
            ).fetchone()
            return row[0] if row else None

    def advance(self, before: Position | None, after: Position) -> bool:
        """Move it, unless another run has moved it meanwhile; tell whether it stands at ``after``.

        Then the other run's position stays: both have written what they have read, so either is
        true, and the next increment begins there.

        Parameters
        ----------
        before
            Where it stood when the run began.
        """
        texts = [None if p is None else json.dumps(p, sort_keys=True) for p in (before, after)]
        with self.postgres.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO watermarks VALUES (%s, %s, %s, %s, clock_timestamp()) "
                "ON CONFLICT (view, fingerprint, source) DO UPDATE "
                "SET position = excluded.position, advanced_at = excluded.advanced_at "
                "WHERE watermarks.position::text IS NOT DISTINCT FROM %s",
                (*self._key, texts[1], texts[0]),
            )
            return cursor.rowcount == 1

"""Open vocabularies: words get their codes in the order in which they come, and keep them.

The table is ``category_words``; rows are only ever added to it, so that a code that is stored
somewhere always says the same word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.cleaning import FIRST_KNOWN, UNSEEN, as_word
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError
from feature_store.offline.postgres import Postgres

if TYPE_CHECKING:
    import psycopg

LONGEST_WORD = 100
"""Longer texts are not learned, nor those that do not print: they stay unseen."""
WORDS = "SELECT feature, word FROM category_words WHERE view = %s ORDER BY feature, code"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('category_words ' || %s, 0))"
ADD = """
INSERT INTO category_words (view, feature, code, word)
SELECT %s, %s, code, word FROM unnest(%s::smallint[], %s::text[]) AS added (code, word)"""


class Vocabularies:
    """The open vocabularies of one offline store."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self._seen: dict[str, dict[str, list[str]]] = {}

    def view(self, view: FeatureView) -> FeatureView:
        """The view with the words that are known by now."""
        return view.with_words(self._known(view.schema)) if view.schema.open_features else view

    def schema(self, schema: FeatureSchema) -> FeatureSchema:
        """The schema with the words that are known by now."""
        whole = schema.whole or schema
        return schema.with_words(self._known(whole)) if whole.open_features else schema

    def schema_of(self, schema: FeatureSchema, values: NDArray[np.float32]) -> FeatureSchema:
        """The schema with the words of vectors ``(n, p)``; the store is asked for new ones only."""
        known = schema.with_words(self._seen.get(schema.view, {}))
        for feature in known.open_features:
            codes = values[:, known.positions[feature.name]]
            if not feature.has_words or (codes >= FIRST_KNOWN + len(feature.categories)).any():
                words = self._seen[schema.view] = self._known(schema.whole or schema)
                return schema.with_words(words)
        return known

    def learn(self, view: FeatureView, given: Mapping[str, Iterable[object]]) -> FeatureView:
        """Learn the words among raw values that are new; give the view with all that are known.

        It is done, and seen by all, when this returns, whatever becomes of the rows. Words come in
        the order given until a vocabulary is full; letter case makes no other word.

        Parameters
        ----------
        given
            Raw values of open features by name; others are passed over.
        """
        return view.with_words(self.learned(view.schema, given).words)

    def learned(
        self, schema: FeatureSchema, given: Mapping[str, Iterable[object]]
    ) -> FeatureSchema:
        """`learn` for a schema."""
        wanted = {
            feature.name: new
            for feature in schema.open_features
            if (new := _new_words(feature, given.get(feature.name, ())))
        }
        if not wanted:
            return schema
        with self.postgres.transaction() as connection:
            connection.execute(LOCK, (schema.view,))
            schema = schema.with_words(_words(connection, schema))
            for feature in schema.open_features:
                known = len(feature.categories)
                if not (new := _new_words(feature, wanted.get(feature.name, ()))):
                    continue
                _add(
                    connection,
                    schema.view,
                    feature.name,
                    known,
                    new[: (feature.open_to or 0) - known],
                )
            return schema.with_words(_words(connection, schema))

    def _known(self, schema: FeatureSchema) -> dict[str, list[str]]:
        with self.postgres.transaction() as connection:
            return _words(connection, schema)

    def adopt(self, schema: FeatureSchema) -> None:
        """Take over the words of a schema with their codes, where rows of it are brought in.

        Raises
        ------
        FeatureStoreError
            If a code has another word here already.
        """
        if not schema.words:
            return
        with self.postgres.transaction() as connection:
            connection.execute(LOCK, (schema.view,))
            known = _words(connection, schema)
            for name, words in schema.words.items():
                here = known.get(name, [])
                for one, other in zip(here, words, strict=False):
                    if one != other:
                        raise FeatureStoreError(
                            f"'{name}' of '{schema.view}' has '{one}' here where these rows have "
                            f"'{other}': their codes would say other words. Bring them into an "
                            "empty store."
                        )
                _add(connection, schema.view, name, len(here), words[len(here) :])


def _add(
    connection: psycopg.Connection, view: str, name: str, known: int, words: Sequence[str]
) -> None:
    """Give codes to words, behind so many that have some."""
    codes = range(FIRST_KNOWN + known, FIRST_KNOWN + known + len(words))
    connection.execute(ADD, (view, name, list(codes), list(words)))


def _words(connection: psycopg.Connection, schema: FeatureSchema) -> dict[str, list[str]]:
    """The words of each open vocabulary in the order of their codes."""
    found: dict[str, list[str]] = {feature.name: [] for feature in schema.open_features}
    for feature, word in connection.execute(WORDS, (schema.view,)).fetchall():
        if feature in found:
            found[feature].append(word)
    return found


def _new_words(feature: FeatureDefinition, values: Iterable[object]) -> list[str]:
    """Words of raw values that the vocabulary lacks and may learn, each once."""
    if feature.open_to is None or len(feature.categories) >= feature.open_to:
        return []
    found: dict[str, str] = {}
    for value in values:
        if feature.cleaning.code(value) == UNSEEN:
            word = as_word(value)
            if 0 < len(word) <= LONGEST_WORD and word.isprintable():
                found.setdefault(word.casefold(), word)
    return list(found.values())

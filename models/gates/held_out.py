"""The rows that a registered version did not learn from, found again from what it recorded.

A comparison on rows that one of two models learned from favours that one. Splits follow from the
recorded data range, shares and seed, so they can be drawn again; the recorded digest proves that
the rows are still the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import FTIError
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import StoreUnavailable
from feature_store.offline.tables import row_digests
from feature_store.offline_store import OfflineStore
from feature_store.training_data import TrainingRows, training_rows
from models.artifact.artifact import ModelArtifact
from models.base import Labels, narrowed
from models.errors import ArtifactError
from models.lineage import Dataset, config_of
from models.rows.split import Part, Split
from models.training.fit import split_of as split_for


@dataclass(frozen=True)
class RecordedRows:
    """Rows drawn again, with all features of the view, also those that the model does not take.

    Parameters
    ----------
    dataset
        Of what the model took.
    is_same
        Whether they have the digest that was recorded.
    known_by
        The cut that brought them back, where rows have been appended since; else None.
    """

    rows: TrainingRows
    dataset: Dataset
    is_same: bool
    known_by: datetime | None


@dataclass(frozen=True)
class History:
    """Draws rows and splits of trainings again.

    Parameters
    ----------
    offline, entity, ttl
        Where the features are, and how they were read.
    """

    offline: OfflineStore
    entity: str
    ttl: timedelta | None

    def rows(self, artifact: ModelArtifact, trained_at: datetime | None = None) -> RecordedRows:
        """The rows that a model was trained and judged on.

        Rows that were appended after the training are left out where that brings the recorded
        digest back.

        Raises
        ------
        FeatureStoreError
            If the store has no rows for this range, or not these features.
        """
        recorded_cut = artifact.config.get("known_by")
        cut_at = None if recorded_cut is None else datetime.fromisoformat(recorded_cut)
        drawn = self._draw(artifact, cut_at)
        if drawn.is_same or cut_at is not None or trained_at is None:
            return drawn
        cut = self._draw(artifact, trained_at)
        return cut if cut.is_same else drawn

    def features(
        self, schema: FeatureSchema, matrix: FeatureMatrix, known_by: datetime | None = None
    ) -> FeatureMatrix:
        """The same entities at the same times, with all features of the version of a schema."""
        schema = schema.whole or schema
        if schema.fingerprint == matrix.schema.fingerprint:
            return matrix
        keys, times = matrix.keys, matrix.times
        return self.offline.historical(
            schema, self.entity, keys, times, ttl=self.ttl, known_by=known_by
        )[0]

    def _draw(self, artifact: ModelArtifact, known_by: datetime | None) -> RecordedRows:
        start, end = (datetime.fromisoformat(recorded(artifact, name)) for name in ("start", "end"))
        rows = training_rows(
            self.offline,
            artifact.feature_schema.whole or artifact.feature_schema,
            self.entity,
            start,
            end,
            ttl=self.ttl,
            known_by=known_by,
        )
        dataset = dataset_of(artifact, rows)
        is_same = dataset.digest == recorded(artifact, "dataset_digest")
        return RecordedRows(rows, dataset, is_same, known_by)


def split_of(artifact: ModelArtifact, rows: TrainingRows) -> Split:
    """The parts that a model learned from and was judged on."""
    return split_for(rows, artifact.feature_schema, config_of(artifact.config))


def dataset_of(artifact: ModelArtifact, rows: TrainingRows) -> Dataset:
    """What a model takes of rows with all features of its view."""
    taken = narrowed(rows.features, artifact.feature_schema)
    return Dataset.of(TrainingRows(taken, rows.labels))


def recorded(artifact: ModelArtifact, name: str) -> Any:
    """What ``config.json`` says of a training.

    Raises
    ------
    ArtifactError
        If it does not say it.
    """
    if name not in artifact.config:
        raise ArtifactError(f"{artifact.path}/config.json lacks '{name}'. Train the model again.")
    return artifact.config[name]


@dataclass(frozen=True)
class CommonRows:
    """Rows to compare two models on.

    Parameters
    ----------
    features
        All of the view of the first and of the second model.
    about
        Which rows these are, for people.
    """

    features: tuple[FeatureMatrix, FeatureMatrix]
    labels: Labels
    about: str

    def __len__(self) -> int:
        return len(self.labels)


def rows_for_both(
    test: Part,
    champion: ModelArtifact,
    label: str,
    history: History,
    own: TrainingRows,
    at_least: int,
    known_by: datetime | None = None,
) -> CommonRows:
    """Of a candidate's held-out rows those that the champion did not learn from either.

    Where there are too few, or the champion's rows cannot be drawn again, all held-out rows are
    given: the champion knows some of them, so a candidate that is no worse there is no worse.

    Parameters
    ----------
    label
        The champion's, for people.
    own
        The rows that the candidate's test part is from; the champion's may be the very same.
    at_least
        So many rows, or all.
    known_by
        Only what the store had learned by then: as the candidate's rows were read.
    """
    n, seed = len(test), champion.config.get("seed")
    about = f"all {n:,} held-out rows, which favours {label}: "
    try:
        kept = _unseen(test, _learned(champion, history, own), champion.feature_schema)
    except StoreUnavailable:
        raise
    except FTIError as error:
        about += f"what it learned from cannot be drawn again ({error})"
    else:
        found = int(kept.sum())
        if found >= at_least:
            test = Part(test.features.rows(kept), test.labels[kept])
            about = f"the {found:,} of {n:,} held-out rows that neither model learned from"
        else:
            about += f"it held out only {found:,} of them; training with --seed {seed} changes that"
    theirs = history.features(champion.feature_schema, test.features, known_by)
    return CommonRows((test.features, theirs), test.labels, about)


def _learned(champion: ModelArtifact, history: History, own: TrainingRows) -> list[FeatureMatrix]:
    """The rows that the champion learned from, or chose its threshold on."""
    digest, schema = recorded(champion, "dataset_digest"), champion.feature_schema
    is_of_this_view = own.features.schema.fingerprint == schema.definition_fingerprint
    if not is_of_this_view or dataset_of(champion, own).digest != digest:
        drawn = history.rows(champion)
        if not drawn.is_same:
            raise ArtifactError(
                f"their digest is {drawn.dataset.digest[:12]}…, recorded was {digest[:12]}…"
            )
        own = drawn.rows
    split = split_of(champion, own)
    return [split.train.features, split.validation.features]


def _unseen(test: Part, learned: list[FeatureMatrix], schema: FeatureSchema) -> NDArray[np.bool_]:
    """Which test rows are neither among the learned ones nor, by a schema, equal to one."""
    unseen: NDArray[np.bool_] = np.ones(len(test), dtype=bool)
    for part in learned:
        unseen &= ~np.isin(_events(test.features), _events(part))
        if part.schema.fingerprint == test.features.schema.fingerprint:
            ours, theirs = (narrowed(each, schema).values for each in (test.features, part))
            unseen &= ~np.isin(row_digests(ours), row_digests(theirs))
    return unseen


def _events(matrix: FeatureMatrix) -> NDArray[np.void]:
    """Entity and time of each row as one value."""
    times = matrix.times.astype("datetime64[us]").astype(np.int64)
    return np.column_stack([matrix.keys, times]).view("V16")[:, 0]

"""Plays a simulated world into the real stores: features, predictions, and late labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline_store import Labels, OfflineStore
from feature_store.online.row_codec import moment_of
from models.artifact.artifact import ModelArtifact
from models.artifact.cache import ArtifactCache
from models.base import narrowed
from models.deployment.record import Arm, Deployment
from models.onnx.scorer import OnnxScorer
from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id
from monitoring.log.table import copy_predictions
from monitoring.simulation.world import Visits, World

EVENT_BEFORE_US, LEARNED_BEFORE_US = 60_000_000, 30_000_000
"""A visitor's features are a minute old, and the store has known them for half of one."""

_REPORT = """
INSERT INTO labels (prediction_id, label, label_time, received_at, created_timestamp)
SELECT given.*, given.known_at FROM unnest(%(prediction_id)s::uuid[], %(label)s::smallint[],
    %(label_time)s::timestamptz[], %(known_at)s::timestamptz[])
    AS given (prediction_id, label, label_time, known_at)
"""

Assign = Callable[[str, Deployment], int]
"""From a unit and a deployment to the place of the arm that answers."""


def champion_only(unit: str, deployment: Deployment) -> int:
    """Let the champion answer everybody."""
    return 0


class Told(NamedTuple):
    """What will come true of a prediction, and when that is known."""

    prediction_id: UUID
    label: int
    time_us: int
    known_us: int


@dataclass
class Simulation:
    """A world, played day after day.

    Parameters
    ----------
    offline, connect
        Where features, predictions and labels go.
    serving
        Gives what serves.
    artifacts
        Where its models are had.
    assign
        Gives the place of the arm that answers a unit.
    """

    world: World
    offline: OfflineStore
    connect: Callable[[], psycopg.Connection[Any]]
    serving: Callable[[], Deployment | None]
    artifacts: ArtifactCache
    assign: Assign = champion_only
    _scorers: dict[str, tuple[ModelArtifact, OnnxScorer]] = field(default_factory=dict)
    _late: list[Told] = field(default_factory=list)

    def teach(self, day: int) -> int:
        """Store the features and labels of a day's users, without predictions; give the visits."""
        visits = self.world.day(day)
        if len(visits):
            self._store_features(visits)
            times = visits.times_us.astype("datetime64[us]")
            labels = Labels(visits.users, visits.labels, times)
            self.offline.append_labels(labels, self.world.now(day + 1))
        return len(visits)

    def play(self, day: int) -> int:
        """Play a day: visits are answered, and labels that are known by its end are reported."""
        visits, deployment = self.world.day(day), self.serving()
        with self.connect() as connection:
            if len(visits) and deployment is not None:
                self._store_features(visits)
                self._answer(connection, visits, deployment)
            self._report_labels(connection, self.world.now(day + 1))
        return len(visits)

    def _store_features(self, visits: Visits) -> None:
        """Store what is known of each visitor, once."""
        users, first = np.unique(visits.users, return_index=True)
        seen = visits.rows(first)
        matrix = FeatureMatrix(
            seen.values,
            users,
            (seen.times_us - EVENT_BEFORE_US).astype("datetime64[us]"),
            self.world.engine.schema,
        )
        created = (seen.times_us - LEARNED_BEFORE_US).astype("datetime64[us]")
        self.offline.append(matrix, self.world.engine.view.entity, created)

    def _answer(
        self, connection: psycopg.Connection[Any], visits: Visits, deployment: Deployment
    ) -> None:
        places = np.array([self.assign(str(user), deployment) for user in visits.users.tolist()])
        records: list[PredictionRecord] = []
        for place, arm in enumerate(deployment.arms):
            records += self._answers(visits.rows(places == place), arm, deployment)
        with connection.transaction():
            copy_predictions(connection, records)
        said = {(record.user_id, record.predicted_at_us): record for record in records}
        told = zip(
            *(visits.users.tolist(), visits.times_us.tolist()),
            *(visits.labels.tolist(), visits.known_us.tolist()),
            strict=True,
        )
        for user, time_us, label, known_us in told:
            prediction = said[user, time_us].prediction_id
            self._late.append(Told(UUID(bytes=prediction), label, time_us, known_us))

    def _answers(self, visits: Visits, arm: Arm, deployment: Deployment) -> list[PredictionRecord]:
        """Score the visits that an arm answers, as the API does: in a paired test by both arms."""
        artifact, scorer = self._scorer(arm)
        values = self._narrow(visits.values, artifact)
        scoring = deployment.arms if deployment.mode == "paired" else (arm,)
        context = Context(
            generation=deployment.generation,
            arm=arm.name,
            propensity=arm.share,
            scored=tuple(self._scored_arm(each) for each in scoring),
            experiment=deployment.experiment,
            engine=scorer.engine,
            fingerprint=artifact.fingerprint,
            threshold=artifact.threshold,
        )
        if not len(values):
            return []
        outputs = [self._scorer(each)[1].predict(values).tolist() for each in scoring]
        columns = (visits.users.tolist(), visits.times_us.tolist(), values)
        return [
            PredictionRecord(
                prediction_id=new_prediction_id(time_us),
                predicted_at_us=time_us,
                user_id=user,
                unit=str(user),
                event_time_us=time_us - EVENT_BEFORE_US,
                vector=vector,
                outputs=answers,
                flags=Flags.NONE,
                context=context,
            )
            for user, time_us, vector, answers in zip(
                *columns, zip(*outputs, strict=True), strict=True
            )
        ]

    def _scored_arm(self, arm: Arm) -> ScoredArm:
        threshold = self._scorer(arm)[0].threshold
        return ScoredArm(arm.name, arm.version, arm.label, threshold)

    def _narrow(self, values: NDArray[np.float32], artifact: ModelArtifact) -> NDArray[np.float32]:
        n = len(values)
        keys, times = np.zeros(n, dtype=np.int64), np.zeros(n, dtype="datetime64[us]")
        matrix = FeatureMatrix(values, keys, times, self.world.engine.schema)
        return narrowed(matrix, artifact.feature_schema).values

    def _report_labels(self, connection: psycopg.Connection[Any], until: datetime) -> None:
        """Store the labels that are known before a time, as if the store had learned them then."""
        end_us = int(until.astimezone(UTC).timestamp() * 1e6)
        due = [told for told in self._late if told.known_us < end_us]
        self._late = [told for told in self._late if told.known_us >= end_us]
        columns = {
            "prediction_id": [told.prediction_id for told in due],
            "label": [told.label for told in due],
            "label_time": [moment_of(told.time_us) for told in due],
            "known_at": [moment_of(told.known_us) for told in due],
        }
        connection.execute(_REPORT, columns)

    def _scorer(self, arm: Arm) -> tuple[ModelArtifact, OnnxScorer]:
        if arm.digest not in self._scorers:
            artifact = self.artifacts.get(arm.artifact_uri, arm.digest)
            scorer = OnnxScorer(artifact.read("model.onnx"), len(artifact.features))
            self._scorers[arm.digest] = artifact, scorer
        return self._scorers[arm.digest]


def people(tables: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Join encoded raw columns of several tables."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}

"""Gathers what the gates judge: a version's artifact, its held-out rows and the champion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from configs.training_config import GatesConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.errors import SchemaMismatch
from feature_store.training_data import TrainingRows
from models.artifact.artifact import ModelArtifact
from models.artifact.cache import ArtifactCache
from models.base import Values, narrowed
from models.deployment.record import Arm
from models.families import load_model
from models.gates import rules as gates
from models.gates.held_out import History, rows_for_both, split_of
from models.gates.rules import Comparison, Decision, GateResult
from models.onnx.scorer import OnnxScorer
from models.registry.versions import ModelVersion
from models.rows.split import Part

TIMED_CALLS = 500
WARM_UP_CALLS = 50


@dataclass(frozen=True)
class GateRunner:
    """Decides whether versions may leave the stage None.

    Parameters
    ----------
    config
        What the gates allow.
    history
        Draws the rows of earlier trainings again.
    artifacts
        Where the artifacts of registered versions are had.
    clock
        Gives the present time in UTC.
    """

    config: GatesConfig
    history: History
    artifacts: ArtifactCache
    clock: Callable[[], datetime]

    def judge(
        self, artifact: ModelArtifact, test: Part, own: TrainingRows, champion: Arm | None
    ) -> Decision:
        """Judge an artifact on the rows that were held out from it.

        Parameters
        ----------
        test
            With all features of the view, also those that the model does not take.
        own
            All rows of its training.
        champion
            What serves now; itself, or None, is nothing to compare with.
        """
        if champion is not None and champion.digest == artifact.digest:
            champion = None
        scorer = _scorer(artifact)
        taken = narrowed(test.features, artifact.feature_schema)
        scores = scorer.predict(taken.values)
        native = load_model(artifact).predict_proba(taken)
        results = [
            gates.schema_gate(artifact.fingerprint, self._refusal(artifact)),
            gates.parity_gate(native, scores, self.config),
            *gates.comparison_gates(self._compare_with(artifact, test, own, champion), self.config),
            gates.calibration_gate(test.labels, scores, self.config),
            self._latency(scorer, taken),
            gates.size_gate(_size(artifact), self.config),
        ]
        return Decision(
            digest=artifact.digest,
            champion=champion.label if champion else None,
            champion_digest=champion.digest if champion else None,
            results=tuple(results),
            judged_at=self.clock(),
        )

    def judge_again(self, version: ModelVersion, champion: Arm | None) -> Decision:
        """Judge a registered version; its held-out rows are drawn again.

        Where the store no longer has the rows that it was trained on, a gate ``held_out_rows`` is
        closed: which rows it learned from is not known then.
        """
        artifact = self.artifacts.get(version.artifact_uri, version.digest)
        drawn = self.history.rows(artifact, version.trained_at)
        test = split_of(artifact, drawn.rows).test
        decision = self.judge(artifact, test, drawn.rows, champion)
        if drawn.is_same:
            return decision
        reason = (
            f"the rows in the store have the digest {drawn.dataset.digest[:12]}…, the version was "
            f"trained on {artifact.config['dataset_digest'][:12]}…, so which rows it learned from "
            "is not known; train again"
        )
        unknown = GateResult("held_out_rows", False, reason)
        return Decision(**(vars(decision) | {"results": (unknown, *decision.results)}))

    def _refusal(self, artifact: ModelArtifact) -> str | None:
        try:
            self.history.offline.versions.readable(artifact.feature_schema)
        except SchemaMismatch as error:
            return str(error)
        return None

    def _compare_with(
        self, artifact: ModelArtifact, test: Part, own: TrainingRows, champion: Arm | None
    ) -> Comparison | None:
        if champion is None:
            return None
        theirs = self.artifacts.get(champion.artifact_uri, champion.digest)
        at_least = self.config.minimum_rows
        return compare(artifact, theirs, champion.label, test, own, self.history, at_least)

    def _latency(self, scorer: OnnxScorer, features: FeatureMatrix) -> GateResult:
        rows = [features.values[place % len(features)][None, :] for place in range(TIMED_CALLS)]
        for row in rows[:WARM_UP_CALLS]:
            scorer.predict(row)
        took_ms = []
        for row in rows:
            began = time.perf_counter()
            scorer.predict(row)
            took_ms.append(1000 * (time.perf_counter() - began))
        return gates.latency_gate(median(took_ms), TIMED_CALLS, self.config)


def compare(
    candidate: ModelArtifact,
    champion: ModelArtifact,
    label: str,
    test: Part,
    own: TrainingRows,
    history: History,
    at_least: int,
) -> Comparison:
    """Score the same held-out rows by two models; see `rows_for_both` for which rows."""
    cut = candidate.config.get("known_by")
    known_by = None if cut is None else datetime.fromisoformat(cut)
    common = rows_for_both(test, champion, label, history, own, at_least, known_by)
    ours, theirs = common.features
    scores = _scores(candidate, ours), _scores(champion, theirs)
    return Comparison(label, common.about, ours, common.labels, *scores)


def _scores(artifact: ModelArtifact, features: FeatureMatrix) -> Values:
    """Probabilities by the ONNX graph, of rows with all features of the model's view."""
    return _scorer(artifact).predict(narrowed(features, artifact.feature_schema).values)


def _scorer(artifact: ModelArtifact) -> OnnxScorer:
    return OnnxScorer(artifact.read("model.onnx"), len(artifact.features))


def _size(artifact: ModelArtifact) -> int:
    return sum(path.stat().st_size for path in artifact.path.iterdir())

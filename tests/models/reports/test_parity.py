"""The ONNX graph: its bits at every batch size, its parity, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from feature_store.definitions.schema import UNSEEN
from models.bulk_scorer import BulkScorer
from models.errors import ArtifactError, ExportRefused
from models.onnx.scorer import OnnxScorer
from models.reports.parity import PARITY_ROWS, parity_rows, refuse_different


@pytest.fixture(scope="module")
def graph(trained):
    return trained.model.to_onnx()


@pytest.fixture(scope="module")
def strange(split, masker):
    """Complete, masked and unseen rows, and every word of every category."""
    return parity_rows(split.test.features, masker)


def test_a_row_has_the_same_bits_in_every_batch(graph, strange):
    scorer = OnnxScorer(graph, strange.shape[1])
    whole = scorer.predict(strange)
    for size in (1, 2, 7, 32, 64):
        parts = [strange[start : start + size] for start in range(0, 320, size)]
        found = np.concatenate([scorer.predict(part) for part in parts])
        assert found.tobytes() == whole[: len(found)].tobytes(), size


def test_parity_is_proven_on_masked_unseen_and_all_known_words(strange, split, trained, graph):
    schema = split.test.features.schema
    assert len(strange) > PARITY_ROWS
    assert np.isnan(strange).any()
    for place, feature in enumerate(schema.features):
        if feature.kind == "category":
            codes = set(strange[:, place].tolist())
            assert {0, UNSEEN, *range(2, 2 + len(feature.categories))} <= codes
    assert refuse_different(trained.model, graph, strange) <= 1e-5


def test_bulk_and_single_engine_agree(record, graph, strange):
    bulk = BulkScorer(record.artifact.path / "model.ubj").predict(strange)
    assert bulk.dtype == np.float32
    assert bulk == pytest.approx(OnnxScorer(graph, strange.shape[1]).predict(strange), abs=1e-5)


def test_an_export_that_answers_otherwise_is_refused(trained, graph, strange):
    model = onnx.load_from_string(graph)
    [weights] = [a for a in model.graph.node[-1].attribute if a.name == "class_weights"]
    weights.floats[0] += 0.5
    with pytest.raises(ExportRefused, match=r"differs from the XGBoost model on \d+ of 1169 rows"):
        refuse_different(trained.model, model.SerializeToString(), strange)


@pytest.mark.parametrize(
    ("content", "p", "message"),
    [
        (b"not a graph", 47, "The ONNX model cannot be loaded"),
        (None, 46, "maps {'features': 47}"),
    ],
)
def test_what_is_no_such_graph_is_refused(graph, content, p, message):
    with pytest.raises(ArtifactError, match=message):
        OnnxScorer(graph if content is None else content, p)

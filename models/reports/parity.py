"""The proof that an ONNX graph answers as the model does that it was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN, FeatureSchema
from models.errors import ExportRefused
from models.onnx.scorer import OnnxScorer
from models.rows.masking import Masker
from models.tabular_model import TabularModel

TOLERANCE = 1e-5
"""Largest difference of probabilities; float32 sums of some 400 trees differ by about 1e-6."""
PARITY_ROWS = 1_000


def parity_rows(
    features: FeatureMatrix, masker: Masker, n: int = PARITY_ROWS, seed: int = 0
) -> NDArray[np.float32]:
    """Rows on which two engines must agree: complete, masked, unseen, and every known word.

    Returns
    -------
    float32 ``(n + words, p)``
        ``n`` rows drawn from ``features``, a third each complete, with attributes missing and
        with attributes missing or unseen; then a row for each word of each category.
    """
    random = np.random.default_rng(seed)
    drawn = features.values[random.integers(0, len(features), n)]
    complete, masked, unseen = np.array_split(drawn, 3)
    hidden = masker.random(len(masked), 0, random)
    absent = masker.random(len(unseen), 0, random)
    strange = absent & (random.random(absent.shape) < 0.5)
    return np.concatenate(
        [
            complete,
            masker.hide(masked, hidden),
            masker.hide(unseen, absent, strange),
            _every_word(drawn, features.schema),
        ]
    )


def refuse_different(model: TabularModel, onnx: bytes, rows: NDArray[np.float32]) -> float:
    """Compare a model with its export; return the largest difference of probabilities.

    Raises
    ------
    ExportRefused
        If a row differs by more than `TOLERANCE`; the message gives the worst.
    """
    if model.schema is None:
        raise ExportRefused("The model has not been fitted; call fit before the export.")
    n, schema = len(rows), model.schema
    matrix = FeatureMatrix(rows, np.arange(n), np.zeros(n, dtype="datetime64[us]"), schema)
    native, exported = model.predict_proba(matrix), OnnxScorer(onnx, len(schema)).predict(rows)
    difference = np.abs(native - exported)
    worst = int(np.argmax(difference))
    if not difference[worst] <= TOLERANCE:
        raise ExportRefused(
            f"The ONNX model differs from the {model.title} model on "
            f"{np.sum(difference > TOLERANCE)} of {n} rows, by up to {difference[worst]:.2g} "
            f"(allowed: {TOLERANCE:g}), so it is not registered. The worst row is "
            f"{schema.decode(rows[worst])}."
        )
    return float(difference[worst])


def _every_word(drawn: NDArray[np.float32], schema: FeatureSchema) -> NDArray[np.float32]:
    words = [
        (place, code)
        for place, feature in enumerate(schema.features)
        for code in range(FIRST_KNOWN + len(feature.categories))
        if feature.kind == "category"
    ]
    rows = drawn[np.arange(len(words)) % len(drawn)]
    places, codes = np.array(words, dtype=np.int64).reshape(-1, 2).T
    rows[np.arange(len(words)), places] = codes
    return rows

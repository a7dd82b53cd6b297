"""How much each member of an ensemble counts."""

from __future__ import annotations

import numpy as np
import pytest

from models.ensemble import Blend, fit_blend
from models.evaluation.metrics import log_loss, logits_of


@pytest.fixture
def members(random):
    """Labels, and the logits of two members that see the truth through noise of their own."""
    n = 20_000
    truth = random.normal(-1, 1.5, n)
    labels = (random.random(n) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    return labels, truth[:, np.newaxis] + random.normal(0, [0.7, 1.0], (n, 2))


def test_the_blend_is_better_than_its_best_member_on_rows_it_was_not_fitted_on(members):
    labels, logits = members
    fitted = fit_blend(logits[:10_000], labels[:10_000])
    labels, logits = labels[10_000:], logits[10_000:]
    alone = [
        log_loss(labels, Blend((1.0,), 0.0).probabilities(column[:, None])) for column in logits.T
    ]
    assert log_loss(labels, fitted.probabilities(logits)) < min(alone) - 0.005


def test_the_better_member_counts_more(members):
    first, second = fit_blend(members[1], members[0]).weights
    assert first > second > 0


def test_a_member_that_says_the_contrary_counts_nothing(members):
    labels, logits = members
    contrary = np.column_stack([logits[:, 0], -logits[:, 1]])
    assert fit_blend(contrary, labels).weights[1] == 0


def test_members_that_are_too_sure_are_calibrated(members):
    labels, logits = members
    p = fit_blend(3 * logits + 1, labels).probabilities(3 * logits + 1)
    assert p.mean() == pytest.approx(labels.mean(), abs=0.002)
    assert log_loss(labels, p) == pytest.approx(
        log_loss(labels, fit_blend(logits, labels).probabilities(logits)), abs=1e-4
    )


def test_a_batch_of_one_equals_its_row(members):
    blend, logits = Blend((0.7, 0.4), -0.1), members[1][:50]
    one = [blend.probabilities(logits[place : place + 1])[0] for place in range(50)]
    assert np.array(one).tobytes() == blend.probabilities(logits).tobytes()


def test_logits_of_certainty_are_finite():
    assert np.isfinite(logits_of(np.array([0, 1], dtype=np.float32))).all()

"""Which raw columns a model cannot see, by name."""

from __future__ import annotations

import numpy as np

from feature_store.feature_definitions import MODEL_VIEW
from serving.prediction.missing_attributes import MissingAttributes
from tests.worlds.rows import ENGINE, FIRST_ROW, missing_in, random_matrix

MISSING = MissingAttributes(MODEL_VIEW.schema)


def test_the_raw_columns_without_a_known_value_are_named():
    known, unseen, nothing = MISSING.of(
        ENGINE.rows([FIRST_ROW, {**FIRST_ROW, "sex": "Unknown"}, {}])
    )
    assert known == []
    assert "sex" in unseen
    assert len(nothing) == 14


def test_many_vectors_have_the_names_that_each_has_alone():
    values = random_matrix(200).values
    assert MISSING.of(values) == [missing_in(vector) for vector in np.array(values)]

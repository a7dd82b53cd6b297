"""Which raw columns a model cannot see, by name."""

from __future__ import annotations

import numpy as np

from feature_store.feature_definitions import MODEL_VIEW
from serving.prediction.missing_attributes import MissingAttributes
from tests.worlds.rows import ENGINE, FIRST_ROW, missing_in, random_matrix

MISSING = MissingAttributes(MODEL_VIEW.schema)


def test_the_raw_columns_without_a_known_value_are_named():
    known, odd, nothing = MISSING.of(
        ENGINE.rows([FIRST_ROW, {**FIRST_ROW, "sex": "Unknown", "age": None}, {}])
    )
    assert known == ([], [])
    assert odd == (["age"], ["sex"])
    assert (len(nothing.missing), nothing.unseen) == (14, [])


def test_many_vectors_have_the_names_that_each_has_alone():
    values = random_matrix(200).values
    found = MISSING.of(values)
    assert found == [MISSING.of(vector[np.newaxis])[0] for vector in values]
    assert [each.missing for each in found] == [missing_in(vector) for vector in values]
    assert any(each.unseen for each in found)

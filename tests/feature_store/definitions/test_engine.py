"""The engine: values, missing ones, what follows from what, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.definitions.engine import Engine
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, UnknownFeature
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.rows import FIRST_ROW

ENGINE = Engine(MODEL_VIEW)


def decoded(**attributes: object) -> dict[str, object]:
    return dict(ENGINE.schema.decode(ENGINE.row(attributes)))


def test_the_first_row_has_the_values_that_a_person_computes() -> None:
    values = decoded(**FIRST_ROW)
    assert {name: values[name] for name in FIRST_ROW} == FIRST_ROW
    expected = {
        **{"capital_net": 2174, "has_capital_gain": 1, "has_capital_loss": 0},
        **{"has_capital_activity": 1, "hours_band": "40 to 41", "is_overtime": 0},
        **{"is_part_time": 0, "overtime_hours": 0, "education_group": "bachelor"},
        **{"has_degree": 1, "has_advanced_degree": 0, "years_of_school": 16},
        **{"age_band": "35 to 45", "age_squared": 1521, "years_of_experience": 17},
        **{"is_prime_age": 1, "age_hours": 1560, "education_hours": 520, "age_education": 507},
        **{"is_married": 0, "marital_group": "never-married", "spouse_hours": 0},
        **{"relationship_group": "on-their-own", "heads_family_alone": 0, "spouse_education": 0},
        **{"occupation_group": "technical-sales-office", "is_white_collar": 1},
        **{"work_sector": "government", "is_self_employed": 0, "manager_education": 0},
        **{"country_region": "united-states"},
    }
    assert {name: values[name] for name in expected} == expected
    assert values["capital_gain_log"] == pytest.approx(np.log(2175), rel=1e-6)
    assert values["capital_loss_log"] == 0


def test_absent_attributes_are_missing_and_so_is_what_depends_on_them() -> None:
    values = decoded(age=35)
    assert values["age_squared"] == 1225
    assert values["hours_per_week"] is None
    assert values["is_overtime"] is None
    assert values["hours_band"] is None
    assert values["age_hours"] is None
    assert values["workclass"] is None


def test_a_word_nobody_defined_is_unseen_and_not_missing() -> None:
    place = ENGINE.schema.position("workclass")
    assert ENGINE.row({"workclass": "Astronaut"})[place] == 1
    assert ENGINE.row({"workclass": None})[place] == 0
    assert ENGINE.row({"workclass": "Astronaut"})[ENGINE.schema.position("work_sector")] == 1


def test_the_rank_follows_from_the_education_and_the_other_way_round() -> None:
    assert decoded(education="Bachelors")["education_num"] == 13
    assert decoded(education_num=13)["education"] == "Bachelors"
    assert decoded(education_num=13)["has_degree"] == 1


def test_overriding_an_education_lets_its_rank_follow_again() -> None:
    stored = ENGINE.row(FIRST_ROW)
    values = ENGINE.schema.decode(ENGINE.override(stored, {"education": "Masters"}))
    assert (values["education_num"], values["has_advanced_degree"]) == (14, 1)
    values = ENGINE.schema.decode(ENGINE.override(stored, {"education_num": 9}))
    assert (values["education"], values["education_hours"]) == ("HS-grad", 360)


def test_overriding_with_none_makes_an_attribute_missing() -> None:
    values = ENGINE.schema.decode(ENGINE.override(ENGINE.row(FIRST_ROW), {"age": None}))
    assert values["age"] is None
    assert values["age_squared"] is None
    assert values["hours_per_week"] == 40


def test_many_rows_are_overridden_as_each_alone_to_the_bit() -> None:
    stored = np.array([ENGINE.row(FIRST_ROW), ENGINE.row({"workclass": "unheard of"})] * 3)
    given = [
        {},
        {"age": 50, "hours_per_week": None},
        {"education": "Masters"},
        {"education_num": 3},
        {"education": "9th", "education_num": 16},
        {"occupation": "unheard of", "sex": None},
    ]
    alone = [ENGINE.override(row, each) for row, each in zip(stored, given, strict=True)]
    before = stored.copy()
    assert ENGINE.overrides(stored, given).tobytes() == np.array(alone).tobytes()
    assert stored.tobytes() == before.tobytes()
    with pytest.raises(UnknownFeature, match="'agee' is not a raw column"):
        ENGINE.overrides(stored[:1], [{"agee": 1}])


def test_many_rows_of_attributes_are_computed_as_each_alone_to_the_bit() -> None:
    given = [FIRST_ROW, {}, {"education": "9th", "education_num": 16}, {"sex": "unheard of"}]
    alone = np.array([ENGINE.row(each) for each in given])
    assert ENGINE.rows(given).tobytes() == alone.tobytes()
    assert ENGINE.rows([]).shape == (0, 47)
    with pytest.raises(UnknownFeature, match="'agee' is not a raw column"):
        ENGINE.rows([{"agee": 1}])


def test_an_attribute_that_is_not_a_raw_column_is_refused() -> None:
    with pytest.raises(UnknownFeature, match="'age_squared' is not a raw column"):
        ENGINE.row({"age_squared": 3})
    with pytest.raises(UnknownFeature, match="'agee' is not a raw column"):
        ENGINE.table({"agee": np.zeros(2)})


def test_a_division_by_zero_is_missing_and_not_infinite() -> None:
    view = FeatureView("v", entity="e")
    view.raw("a", description="A.", valid_range=(0, 1))

    @view.feature(valid_range=(0, 1))
    def inverse(a: np.ndarray) -> np.ndarray:
        """One by a."""
        return np.float32(1) / a

    assert Engine(view).schema.decode(Engine(view).row({"a": 0.0}))["inverse"] is None


def test_a_function_that_returns_float64_is_refused_at_start() -> None:
    view = FeatureView("v", entity="e")
    view.raw("a", description="A.", valid_range=(0, 1))

    @view.feature(valid_range=(0, 1))
    def twice(a: np.ndarray) -> np.ndarray:
        """Twice a."""
        return a * np.array([2.0])

    with pytest.raises(DefinitionError, match="'twice' returned float64 of shape"):
        Engine(view)


def test_an_empty_table_has_no_rows() -> None:
    assert ENGINE.table({"age": np.empty(0, dtype=np.float32)}).shape == (0, 47)

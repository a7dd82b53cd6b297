"""Adding a 48th feature takes one function: the one that the README shows."""

from __future__ import annotations

import copy
import re

import numpy as np

from configs.settings import ROOT
from feature_store import feature_definitions
from feature_store.definitions.engine import Engine
from feature_store.definitions.view import FeatureView
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline import tables


def test_the_function_of_the_readme_is_all_that_a_48th_feature_needs() -> None:
    view: FeatureView = copy.deepcopy(MODEL_VIEW)
    section = (ROOT / "README.md").read_text().partition("## A 48th feature")[2]
    [code] = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    names: dict[str, object] = vars(feature_definitions) | {"feature": view.feature}
    exec(code, names)  # noqa: S102 - what the README tells people to write

    engine = Engine(view)
    assert len(engine.schema) == 48
    assert engine.schema.fingerprint != MODEL_VIEW.schema.fingerprint
    name = engine.schema.names[-1]
    assert view.definitions[name].protected  # it takes the age
    assert f"    {name} integer,\n" in tables.feature_table(engine.schema, view.entity)

    def value(**attributes: object) -> float:
        return float(engine.row(attributes)[-1])

    assert value(age=61, hours_per_week=45) == 1
    assert value(age=61, hours_per_week=40) == value(age=59, hours_per_week=45) == 0
    assert np.isnan(value(age=61))

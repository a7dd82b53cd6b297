"""Hyper-parameters that come as a mapping, checked against their definition in the settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from feature_store.definitions.schema import FeatureSchema
from models.errors import TrainingRefused

Config = TypeVar("Config", bound=BaseModel)


def checked(config: type[Config], params: Mapping[str, Any], family: str) -> Config:
    """Read parameters by name; what is not named has its default.

    Raises
    ------
    TrainingRefused
        If a name is not known or a value unusable; the message names it.

    Examples
    --------
    >>> from configs.settings import XGBoostConfig
    >>> checked(XGBoostConfig, {"max_depth": 0}, "XGBoost")
    Traceback (most recent call last):
    ...
    models.errors.TrainingRefused: XGBoost's parameter 'max_depth' has the value 0: Input should be
    greater than or equal to 1.
    """
    known = list(config.model_fields)
    for name in params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
            raise TrainingRefused(f"{family} has no parameter '{name}' here. {hint}")
    try:
        return config(**params)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(part) for part in problem["loc"])
        raise TrainingRefused(
            f"{family}'s parameter '{path}' has the value {problem['input']!r}: {problem['msg']}."
        ) from error


def refuse_unordered(constraints: Mapping[str, int], schema: FeatureSchema) -> None:
    """Refuse constraints on features that are not there, or that have no more and less.

    Raises
    ------
    TrainingRefused
        If a name is not that of a number; the message gives the nearest.
    """
    numbers = [feature.name for feature in schema.features if feature.kind != "category"]
    for name in constraints:
        if name not in numbers:
            near = difflib.get_close_matches(name, numbers, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(numbers)}."
            raise TrainingRefused(
                f"monotone_constraints names '{name}', which is not a number among the features "
                f"of the model. {hint}"
            )

"""Where tuning looks: ranges and choices by hyper-parameter, checked before any trial runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.training_config import SearchRange, TrainingConfig
from models.errors import TrainingRefused
from models.families import new_model
from models.tabular_model import validated_params

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class SearchSpace:
    """The hyper-parameters of one family that tuning may change.

    Parameters
    ----------
    whole
        Names of those that are whole numbers.
    """

    family: str
    ranges: Mapping[str, SearchRange]
    whole: frozenset[str]

    @classmethod
    def of(cls, config: TrainingConfig) -> SearchSpace:
        """Read the space of the configured family, and try both ends of each range.

        Raises
        ------
        TrainingRefused
            If the family has no space, a name is not one of its hyper-parameters, or a bound is
            no value that it can have.
        """
        family, section = config.model, type(getattr(config, config.model))
        ranges = config.tuning.spaces.get(family)
        if not ranges:
            known = ", ".join(config.tuning.spaces) or "none"
            raise TrainingRefused(
                f"Setting 'training.tuning.spaces' has no space for '{family}' (known: {known}). "
                f"Name its hyper-parameters there with low and high, or choices."
            )
        title = f"'training.tuning.spaces.{family}': {new_model(config).title}"
        whole = {
            name
            for name in ranges
            if name in section.model_fields and section.model_fields[name].annotation is int
        }
        for name, values in ranges.items():
            for value in values.choices or (values.low, values.high):
                validated_params(section, {name: value}, title)
        return cls(family, ranges, frozenset(whole))

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Let a trial choose a value for each hyper-parameter."""
        return {name: self._suggested(trial, name) for name in self.ranges}

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether all its hyper-parameters have values here."""
        return all(_within(self.ranges[name], params[name]) for name in self.ranges)

    def _suggested(self, trial: Trial, name: str) -> Any:
        values = self.ranges[name]
        if values.choices:
            return trial.suggest_categorical(name, values.choices)
        assert values.low is not None
        assert values.high is not None
        if name in self.whole:
            return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
        return trial.suggest_float(name, values.low, values.high, log=values.log)


def with_params(config: TrainingConfig, params: Mapping[str, Any]) -> TrainingConfig:
    """The same training with other values for some hyper-parameters of its family."""
    section = getattr(config, config.model)
    values = section.model_dump() | dict(params)
    return config.model_copy(update={config.model: type(section)(**values)})


def _within(values: SearchRange, value: Any) -> bool:
    if values.choices:
        return value in values.choices
    return values.low is not None and values.high is not None and values.low <= value <= values.high

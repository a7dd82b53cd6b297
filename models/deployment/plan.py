"""How an A/B test is judged: fixed when it starts, and kept with its deployment.

A metric or a level that is changed while results come in is chosen by these results. So the plan
is a part of the record, and settings that change later do not touch a running test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Mode = Literal["split", "paired"]
Metric = Literal["brier", "zero_one", "cost", "log_loss"]
Objective = Literal["superiority", "non_inferiority"]

RAMP = (0.01, 0.05, 0.10, 0.25, 0.50)
"""The shares that a ramp goes through, if asked: most of what can go wrong shows at 1 %."""


@dataclass(frozen=True)
class ExperimentPlan:
    """What decides an A/B test.

    Parameters
    ----------
    label_influence
        Whether an answer can change its own label (a loan that is refused is never repaid): then
        only the arm that answered can be judged by it, and both are compared by traffic.
    label_horizon_s
        Age at which a prediction is judged, by the label that is known then.
    metric
        The loss of one prediction: ``brier``, ``zero_one``, ``cost`` (of the two costs), or
        ``log_loss`` with probabilities clipped to [0.01, 0.99].
    objective, margin
        ``superiority`` promotes what is shown to be better; ``non_inferiority`` what is shown to
        be worse by less than the margin, in the metric's unit.
    alpha
        Chance of a false decision by the metric; guardrails and slices share ``guardrail_alpha``.
    ratio_alpha
        Chance of a false alarm by the sample ratio.
    minimum_run_s
        Nothing is promoted before.
    minimum_events
        In a split, losses of each arm that must differ from the others before it is judged.
    ramp
        Shares still to come, ascending; none without a ramp.
    ramp_step_s
        So long a share stays before the next.
    latency_budget_ms
        Answers that take longer are counted.
    over_budget_margin, error_margin, degraded_margin, calibration_margin
        How much worse than the champion each guardrail allows.
    slices, slice_margin, slice_minimum
        Categories whose words are looked at apart; how much worse a slice may be; how many units
        give it a veto.
    """

    label_influence: bool = True
    label_horizon_s: float = 86_400.0
    metric: Metric = "brier"
    cost_false_positive: float = 1.0
    cost_false_negative: float = 1.0
    objective: Objective = "superiority"
    margin: float = 0.002
    alpha: float = 0.05
    guardrail_alpha: float = 0.05
    ratio_alpha: float = 0.01
    minimum_run_s: float = 86_400.0
    minimum_events: int = 50
    ramp: tuple[float, ...] = ()
    ramp_step_s: float = 86_400.0
    latency_budget_ms: float = 50.0
    over_budget_margin: float = 0.01
    error_margin: float = 0.002
    degraded_margin: float = 0.01
    calibration_margin: float = 0.02
    slices: tuple[str, ...] = ()
    slice_margin: float = 0.01
    slice_minimum: int = 200

    def to_dict(self) -> dict[str, Any]:
        """Give the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExperimentPlan:
        """Read what `to_dict` gave, also in an earlier release.

        Examples
        --------
        >>> plan = ExperimentPlan(ramp=(0.1, 0.5))
        >>> ExperimentPlan.from_dict(plan.to_dict()) == plan
        True
        """
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        for name in {"ramp", "slices"} & given.keys():
            given[name] = tuple(given[name])
        return cls(**given)

"""The settings of A/B tests: who gets the challenger, and what decides."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import Section

Level = Annotated[float, Field(gt=0, lt=0.5)]
Margin = Annotated[float, Field(ge=0)]
DAY_S = 86_400.0


class ABTestConfig(Section):
    """What a test that begins is given; one that runs keeps what it was given."""

    challenger_share: float = Field(0.10, gt=0, lt=1)
    salt: str = Field("income", description="another one divides the same users differently")
    label_influence: bool = Field(
        True, description="an answer may change its own label: compare by traffic alone"
    )
    label_horizon_s: float = Field(
        DAY_S, ge=0, description="age at which a prediction is judged by the label known then"
    )
    metric: Literal["brier", "zero_one", "cost", "log_loss"] = Field(
        "brier", description="the loss of a prediction"
    )
    objective: Literal["superiority", "non_inferiority"] = Field(
        "superiority", description="what promotes: better, or worse by less than the margin"
    )
    margin: Margin = Field(0.002, description="of non-inferiority, in the metric's unit")
    alpha: Level = Field(0.05, description="chance of a false decision by the metric")
    guardrail_alpha: Level = Field(0.05, description="divided among all guardrails and slices")
    ratio_alpha: Level = Field(0.01, description="chance of a false alarm by the sample ratio")
    minimum_run_s: float = Field(DAY_S, ge=0, description="nothing is promoted before")
    minimum_events: int = Field(
        50, ge=1, description="in a split: losses of each arm that differ from the others"
    )
    ramp: tuple[float, ...] = Field(
        (0.01, 0.05, 0.10, 0.25, 0.50), description="the shares of a ramp, if one is asked for"
    )
    ramp_step_s: float = Field(DAY_S, ge=0, description="so long a share stays before the next")
    latency_budget_ms: float = Field(50, gt=0, description="answers that take longer are counted")
    over_budget_margin: Margin = Field(0.01, description="more of them than the champion has")
    error_margin: Margin = Field(0.002, description="more requests that the model cannot answer")
    degraded_margin: Margin = Field(0.01, description="more degraded answers")
    calibration_margin: Margin = Field(0.02, description="further from the share of label 1")
    slices: tuple[str, ...] = Field((), description="categories; each of their words is a slice")
    slice_margin: Margin = Field(0.01, description="worse than the champion, in the metric")
    slice_minimum: int = Field(200, ge=2, description="units that give a slice its veto")

    @model_validator(mode="after")
    def _ramp_climbs(self) -> Self:
        if any(not 0 < share < 1 for share in self.ramp):
            raise ValueError("the shares of a ramp lie between 0 and 1")
        if any(later <= earlier for earlier, later in pairwise(self.ramp)):
            raise ValueError("each share of a ramp must be larger than the one before")
        return self

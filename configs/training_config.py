"""The settings of training: ``configs/training_config.yaml``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from configs.section import Section, Share, UtcTime


class MaskingConfig(Section):
    """Randomly masked copies of the training rows, so that absent attributes stay sensible.

    In each copy every row draws a share, uniform in [0, 1), and hides that share of its
    attributes; ``all_missing_share`` of the masked rows hide everything.
    """

    copies: int = Field(2, ge=0, le=20, description="masked copies of every training row")
    weight: float = Field(0.5, gt=0, description="weight of a masked row; a complete one has 1")
    all_missing_share: Share = 0.02
    unseen_share: Share = Field(
        0.05, description="share of hidden categories that read as unseen instead of missing"
    )
    request_attributes: tuple[str, ...] = Field(
        (), description="the attributes present in the request whose log loss every run reports"
    )


class XGBoostConfig(Section):
    """Hyper-parameters of the XGBoost family, under XGBoost's own names."""

    n_estimators: int = Field(2000, ge=1, le=100_000, description="most trees; early stopping ends")
    early_stopping_rounds: int = Field(50, ge=1)
    learning_rate: float = Field(0.05, gt=0, le=1)
    max_depth: int = Field(6, ge=1, le=16)
    min_child_weight: float = Field(1, ge=0)
    gamma: float = Field(0, ge=0)
    subsample: float = Field(1, gt=0, le=1)
    colsample_bytree: float = Field(1, gt=0, le=1)
    colsample_bynode: float = Field(1, gt=0, le=1)
    reg_alpha: float = Field(0, ge=0)
    reg_lambda: float = Field(1, ge=0)
    max_bin: int = Field(256, ge=2, le=65_535)
    max_cat_to_onehot: int = Field(4, ge=1, description="categories up to so many split one by one")
    max_cat_threshold: int = Field(64, ge=1, description="most categories on one side of a split")
    monotone_constraints: dict[str, Literal[-1, 0, 1]] = Field(
        {}, description="feature -> 1 where more of it may not lower the probability, -1 raise it"
    )


class NeuralNetworkConfig(Section):
    """Hyper-parameters of the neural network family."""

    members: Literal[16, 32, 64] = Field(16, description="perceptrons that share their weights")
    width: int = Field(128, ge=16, le=1024, multiple_of=16, description="units of a layer")
    layers: int = Field(2, ge=1, le=8)
    bins: int = Field(64, ge=2, le=256, description="most bins of a number")
    embedding_size: int = Field(8, ge=1, le=256, description="values that stand for a category")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of units that drop out in a step")
    learning_rate: float = Field(0.003, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0, le=1)
    batch_size: int = Field(512, ge=1, le=65_536)
    epochs: int = Field(30, ge=1, le=1000, description="most epochs; early stopping ends")
    patience: int = Field(3, ge=1, description="epochs without a better validation log loss")
    average_decay: float = Field(
        0.998, ge=0, lt=1, description="of the moving average of the weights, which answers"
    )


class EnsembleConfig(Section):
    """Which families an ensemble is made of, and how each of them learns in it."""

    members: tuple[Literal["xgboost", "neural_network"], ...] = Field(
        ("xgboost", "neural_network"), min_length=1, description="families that are blended"
    )
    folds: int = Field(5, ge=2, le=20, description="models of each family; each skips one fold")
    xgboost: XGBoostConfig = XGBoostConfig()
    neural_network: NeuralNetworkConfig = NeuralNetworkConfig()


class GatesConfig(Section):
    """What a version must hold before it may leave the stage None."""

    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="of each limit of an interval of differences"
    )
    log_loss_margin: float = Field(
        0.008, ge=0, description="how much worse than the champion still counts as no worse"
    )
    brier_margin: float = Field(0.003, ge=0)
    minimum_rows: int = Field(
        1_000, ge=1, description="fewer rows that neither model learned from are not enough"
    )
    slices: tuple[str, ...] = Field((), description="categories; each of their words is a slice")
    slice_log_loss_margin: float = Field(0.02, ge=0)
    slice_minimum_rows: int = Field(200, ge=2, description="smaller slices have no veto")
    largest_calibration_error: float = Field(0.03, gt=0, le=1)
    largest_parity_difference: float = Field(1e-5, gt=0)
    largest_latency_ms: float = Field(2, gt=0, description="median of one row through ONNX")
    largest_artifact_mb: float = Field(50, gt=0)


class DecisionConfig(Section):
    """What the decision threshold is worth: used by the objectives ``cost`` and ``precision``."""

    cost_false_positive: float = Field(1, gt=0)
    cost_false_negative: float = Field(1, gt=0)
    target_precision: float = Field(0.8, gt=0, lt=1)


class EvaluationConfig(Section):
    """What is looked at beside the metrics of all test rows."""

    slices: tuple[str, ...] = Field((), description="categories whose words are judged apart")
    smallest_slice: int = Field(100, ge=10, description="rows below which a slice is marked")
    explained_rows: int = Field(300, ge=10, description="test rows whose contributions are drawn")
    learning_curve_seconds: float = Field(120, gt=0, description="no further size after so long")


class SearchRange(Section):
    """Where tuning looks for one hyper-parameter: from ``low`` to ``high``, or some ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool = Field(False, description="equal factors instead of equal steps are equally likely")
    choices: tuple[bool | int | float | str, ...] = ()

    @model_validator(mode="after")
    def _usable(self) -> Self:
        bounds = [value for value in (self.low, self.high) if value is not None]
        if len(bounds) != (0 if self.choices else 2):
            raise ValueError("give both low and high, or choices")
        if bounds and bounds[0] >= bounds[1]:
            raise ValueError(f"low ({bounds[0]:g}) must be below high ({bounds[1]:g})")
        if self.log and (not bounds or bounds[0] <= 0):
            raise ValueError("log needs a low above 0")
        return self


class TuningConfig(Section):
    """How ``--tune`` searches, and in which space for each family."""

    folds: int = Field(3, ge=2, le=10, description="of the training part; each is scored once")
    rows: int = Field(10_000, ge=200, description="most rows of the training part that are used")
    copies: int = Field(1, ge=0, le=20, description="masked copies of each of them")
    warmup_trials: int = Field(8, ge=1, description="trials before hopeless ones are cut short")
    spaces: dict[str, dict[str, SearchRange]] = Field(
        {}, description="family to hyper-parameter to where it may lie"
    )


class TrainingConfig(Section):
    """``configs/training_config.yaml``."""

    experiment_name: str = Field("income-prediction", min_length=1)
    model: Literal["xgboost", "neural_network", "ensemble"] = Field(
        "xgboost", description="the family"
    )
    start: UtcTime
    end: UtcTime
    known_by: UtcTime | None = Field(
        None, description="only what the store had learned by then: the training set of a past day"
    )
    seed: int = Field(7, ge=0, lt=2**31, description="of the split, the masks and the model")
    test_share: float = Field(0.2, gt=0, lt=1)
    validation_share: float = Field(0.1, gt=0, lt=1, description="of what is not test")
    threshold_objective: Literal["balanced", "f1", "accuracy", "cost", "precision"] = Field(
        "balanced", description="what the decision threshold is chosen by on the validation rows"
    )
    decision: DecisionConfig = DecisionConfig()
    calibration: Literal["none", "isotonic", "platt"] = Field(
        "none", description="fitted on the validation rows and shipped inside the artifact"
    )
    exclude_protected: bool = Field(False, description="leave protected features out")
    masking: MaskingConfig = MaskingConfig()
    gates: GatesConfig = GatesConfig()
    xgboost: XGBoostConfig = XGBoostConfig()
    neural_network: NeuralNetworkConfig = NeuralNetworkConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tuning: TuningConfig = TuningConfig()

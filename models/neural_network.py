"""A neural network for tables: embedded categories, binned numbers, an ensemble of perceptrons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from configs.training_config import NeuralNetworkConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from models.base import OnRound, Values
from models.errors import TrainingRefused
from models.evaluation.explanations import permutation_importance
from models.network import network
from models.network.encoding import Encoding
from models.rows.masking import WeightedRows
from models.rows.split import Part
from models.tabular_model import TabularModel, read_about, read_arrays

if TYPE_CHECKING:
    from models.onnx.graph import Graph

MODEL = "model"


class NeuralNetworkModel(TabularModel):
    """Perceptrons that share their weights, over piecewise-linear numbers and embedded words.

    Examples
    --------
    >>> NeuralNetworkModel({"layer": 3})
    Traceback (most recent call last):
    ...
    models.errors.TrainingRefused: Neural network has no parameter 'layer' here. Did you mean
    'layers'?
    """

    family: ClassVar[str] = "neural_network"
    title: ClassVar[str] = "Neural network"
    label_prefix: ClassVar[str] = "nn"
    config = NeuralNetworkConfig
    params: NeuralNetworkConfig

    def _forget(self) -> None:
        self.most_rounds = self.params.epochs
        self._epochs = 0
        self._weights: dict[str, NDArray[Any]] = {}
        self._encoding: Encoding | None = None
        self._importance: dict[str, float] = {}

    def _learn(
        self,
        rows: Part,
        validation: Part | None,
        weights: NDArray[np.float32] | None,
        on_round: OnRound | None,
    ) -> None:
        from models.network.training import train_network

        matrix, known = rows.features, rows.labels
        shares = np.ones(len(known), np.float32) if weights is None else weights
        self._encoding = Encoding.fit(matrix, known, weights, self.params.bins)
        self._weights, self._epochs = train_network(
            WeightedRows(matrix, known, shares),
            self._encoding,
            self.params,
            self.seed,
            validation,
            on_round,
        )
        judges = rows if validation is None else validation
        self._importance = permutation_importance(
            self._probabilities, judges.features, judges.labels, seed=self.seed
        )

    def _probabilities(self, matrix: FeatureMatrix) -> Values:
        return network.probabilities(self._weights, self._fitted, matrix.values)

    def importance(self) -> dict[str, float]:
        """Share of each feature in what is lost when it is shuffled, largest first."""
        return dict(self._importance)

    def facts(self) -> dict[str, int | float | str]:
        """How many epochs it learned, and from which probability on the prediction is 1."""
        return {"n_epochs": self._epochs, "threshold": self.threshold}

    def to_onnx(self) -> bytes:
        """The network as an ONNX graph: ``features`` (n, p) in, ``probability`` (n, 2) out."""
        from models.onnx.graph import Graph
        from models.onnx.network_graph import add_network

        encoding = self._fitted
        graph = Graph(len(self.schema or ()))
        zero, one = add_network(graph, self._weights, encoding)
        return graph.finish(graph.add("Concat", zero, one, axis=1))

    @classmethod
    def add_logit(cls, graph: Graph, models: Sequence[Self], share: float) -> str:
        """Add ``share`` times the sum of the models' logits to a graph, ``(n, LANES)``."""
        from models.onnx.network_graph import add_network_logit

        networks = [model.network for model in models]
        return add_network_logit(graph, networks, share)

    def save(self, folder: Path, name: str = MODEL) -> None:
        """Write ``model.npz``, the arrays, and ``model.json``, what else makes up the model."""
        about = self._about() | {"n_epochs": self._epochs, "importance": self._importance}
        arrays: dict[str, Any] = {**self._fitted.arrays(), **self._weights}
        np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
        (folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema, name: str = MODEL) -> Self:
        """Read what `save` wrote for features of this schema.

        Raises
        ------
        ArtifactError
            If a file is not there or not readable, or was written for other features.
        """
        about = read_about(folder / f"{name}.json", schema)
        arrays = read_arrays(folder / f"{name}.npz")
        model = cls(about["params"], seed=about["seed"])
        model.schema, model.threshold = schema, about["threshold"]
        model._epochs, model._importance = about["n_epochs"], about["importance"]
        model._encoding = Encoding.of(arrays)
        encoded = model._encoding.arrays()
        model._weights = {name: array for name, array in arrays.items() if name not in encoded}
        return model

    @property
    def network(self) -> tuple[dict[str, NDArray[Any]], Encoding]:
        """The arrays by name, and how rows enter."""
        return self._weights, self._fitted

    @property
    def _fitted(self) -> Encoding:
        if self._encoding is None:
            raise TrainingRefused("The model has not been fitted; call fit first.")
        return self._encoding

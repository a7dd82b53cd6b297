"""The engine of every prediction that must be repeatable: ONNX Runtime with one thread.

It gives a row the same bits in every batch. The native library, quicker for many rows at once
(`bulk_scorer`), agrees with it to 1e-5, not to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError

INPUT, OUTPUT = "features", "probability"


class OnnxScorer:
    """Answers rows with an ONNX graph on one thread; the same bits at every batch size.

    Parameters
    ----------
    model
        The graph's bytes; check their hash first (`open_artifact`).
    p
        How many features it must take.
    threads
        More than one may change the last bits.

    Raises
    ------
    ArtifactError
        If the bytes are not such a graph.
    """

    engine = "onnx"

    def __init__(self, model: bytes, p: int, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's errors have no type in common
            reason = " ".join(str(error).split())
            raise ArtifactError(f"The ONNX model cannot be loaded: {reason}") from error
        self._refuse_other_shape(p)

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of label 1, float32 ``(n,)``, for float32 ``(n, p)``."""
        probabilities: NDArray[np.float32] = self._session.run((OUTPUT,), {INPUT: values})[0]
        return probabilities[:, 1]

    def _refuse_other_shape(self, p: int) -> None:
        takes = {node.name: node.shape[-1] for node in self._session.get_inputs()}
        gives = {node.name: node.shape[-1] for node in self._session.get_outputs()}
        if takes != {INPUT: p} or gives != {OUTPUT: 2}:
            raise ArtifactError(
                f"The ONNX model maps {takes} to {gives}; expected {{'{INPUT}': {p}}} to "
                f"{{'{OUTPUT}': 2}}. Export it again."
            )

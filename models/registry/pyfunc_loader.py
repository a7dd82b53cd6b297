"""Loads an artifact for the stock MLflow client: ``mlflow.pyfunc.load_model("models:/…")``.

MLflow copies this one file beside the model and imports it by itself, so it needs nothing of this
project: only NumPy, pandas, and XGBoost or, for other families, ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MISSING, UNSEEN, FIRST_KNOWN = 0, 1, 2
"""Codes of a category: missing, not in the vocabulary, first word of the vocabulary."""
WHITE_SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What is taken off both ends of a word."""
LARGEST_EXACT_INTEGER, LARGEST_WHOLE = 2**24, 2**53
"""Above them a float32 and a float64 no longer hold every whole number."""
BLOCK = 4_096
"""Rows that a graph answers at once."""


class PackedModel:
    """A model that takes a frame with its features and gives probabilities and predictions.

    Parameters
    ----------
    folder
        The artifact; the hashes of its files are checked first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / "manifest.json").read_bytes())
        for name, expected in manifest["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ValueError(
                    f"{folder / name} was altered: its SHA-256 is not the expected one."
                )
        schema = json.loads((folder / "schema.json").read_bytes())
        # Of an open vocabulary the words that were known when the model was trained.
        words = schema.get("words", {})
        self.features = [
            each | {"categories": words.get(each["name"], each["categories"])}
            for each in schema["features"]
        ]
        self.marks = schema.get("missing_marks", {})
        self.threshold = json.loads((folder / "config.json").read_bytes())["threshold"]
        native = folder / "model.ubj"
        self.answer = trees(native) if native.exists() else graph(folder / "model.onnx")

    def predict(
        self, model_input: pd.DataFrame | np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score rows.

        Parameters
        ----------
        model_input
            A frame with a column for each feature, categories as words or codes, arrays as a
            column of lists or one for each place; or an array ``(n, p)`` in the order of the
            features, categories as codes. Missing is NaN or None.

        Returns
        -------
        A frame ``(n, 2)`` with the same index: ``probability`` of label 1, and ``prediction``,
        which is 1 from the model's threshold on.
        """
        frame = model_input
        if not isinstance(frame, pd.DataFrame):
            frame = pd.DataFrame(model_input, columns=[f["name"] for f in self.features])
        frame = with_places(frame, self.features)
        absent = [f["name"] for f in self.features if f["name"] not in frame.columns]
        if absent:
            raise ValueError(f"The frame lacks the features {', '.join(absent)}.")
        columns = [
            encode(frame[feature["name"]], feature, self.marks.get(feature["name"], ()))
            for feature in self.features
        ]
        probability = self.answer(np.column_stack(columns).astype(np.float32))
        decided = {"probability": probability, "prediction": probability >= self.threshold}
        return pd.DataFrame(decided, index=frame.index).astype({"prediction": "int8"})


def trees(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Give what answers vectors ``(n, p)`` with the native XGBoost model and its calibration."""
    import xgboost

    booster = xgboost.Booster(model_file=path)

    def answer(values: np.ndarray) -> np.ndarray:
        data = xgboost.DMatrix(
            values,
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        return calibrated(np.asarray(booster.predict(data)), path.with_name("calibration.json"))

    return answer


def calibrated(probability: np.ndarray, path: Path) -> np.ndarray:
    """Set probabilities right by the curve in a file, where the model has one."""
    if not path.exists():
        return probability
    curve = json.loads(path.read_bytes())
    return np.asarray(np.interp(probability, curve["x"], curve["y"]), dtype=np.float32)


def graph(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Give what answers vectors ``(n, p)`` with the ONNX graph."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(values: np.ndarray) -> np.ndarray:
        blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
        found = [session.run(("probability",), {"features": block})[0][:, 1] for block in blocks]
        return np.concatenate([np.empty(0, np.float32), *found])

    return answer


def encode(column: pd.Series, feature: dict[str, Any], marks: Sequence[str] = ()) -> np.ndarray:
    """Encode a column ``(n,)`` as float32: words become codes, numbers stay.

    Words are read as the project reads them everywhere: without white space around them, marks of
    missing values as missing, and without regard to letter case where that says which is meant.
    """
    if feature["kind"] != "category":
        numbers = np.asarray(column.to_numpy(dtype=np.float32, na_value=np.nan))
        _refuse_lost_digits(column, numbers, feature["name"])
        return numbers
    if pd.api.types.is_numeric_dtype(column):
        given = np.asarray(column.fillna(MISSING).to_numpy(dtype=np.float32))
        return np.where(given < FIRST_KNOWN + len(feature["categories"]), given, UNSEEN)
    codes = {word: FIRST_KNOWN + place for place, word in enumerate(feature["categories"])}
    folded = [word.casefold() for word in codes]
    alone = {f: c for f, c in zip(folded, codes.values(), strict=True) if folded.count(f) == 1}
    missing = {"", *(mark.strip(WHITE_SPACE).lower() for mark in marks)}

    def code(value: object) -> int:
        word = str(value).strip(WHITE_SPACE)
        if word in codes:
            return codes[word]
        return MISSING if word.lower() in missing else alone.get(word.casefold(), UNSEEN)

    known = column.map(code, na_action="ignore")
    return np.asarray(known.astype("Float32").to_numpy(dtype=np.float32, na_value=MISSING))


def with_places(frame: pd.DataFrame, features: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The frame with a column for each place of arrays that are columns of lists."""
    sizes = dict(each["array"] for each in features if "array" in each)
    whole = [name for name in sizes if name in frame.columns]
    spread = [frame.drop(columns=whole)]
    for name in whole:
        nothing = [np.nan] * sizes[name]
        lists = [nothing if isinstance(v, float) or v is None else v for v in frame[name]]
        if any(len(value) != sizes[name] for value in lists):
            raise ValueError(f"'{name}' has lists of other lengths than {sizes[name]}.")
        for value in lists:
            if value is not nothing and any(number is None or number != number for number in value):
                raise ValueError(f"'{name}' has a list in which a number is missing.")
        names = [f"{name}_{place}" for place in range(sizes[name])]
        spread.append(pd.DataFrame(lists, frame.index, names))
    return pd.concat(spread, axis=1)


def _refuse_lost_digits(column: pd.Series, numbers: np.ndarray, name: str) -> None:
    """Raise when a whole number has become another one; see `becomes_another` of the project."""
    for place in np.flatnonzero(np.abs(numbers) >= LARGEST_EXACT_INTEGER):
        value, found = column.iloc[place], numbers[place]
        is_whole = isinstance(value, int | np.integer) or (
            abs(value) <= LARGEST_WHOLE and value % 1 == 0
        )
        if is_whole and (not np.isfinite(found) or int(found) != int(value)):
            raise ValueError(
                f"{name} is {value}, which a float32 holds as {found:.0f}. Give what the model was "
                "trained on."
            )


def _load_pyfunc(path: str) -> PackedModel:
    """Load the artifact at ``path``; MLflow calls this by name."""
    return PackedModel(Path(path))

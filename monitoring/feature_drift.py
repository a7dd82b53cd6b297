"""Drift on demand: `detect_drift` compares frames, matrices, or the champion's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.settings import Settings, load_settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN, MISSING, UNSEEN
from models.artifact.profile import Histogram, Profile, ReferenceProfile, numbers, reference_profile
from models.base import feature_matrix
from models.connect import now
from monitoring import connect
from monitoring.checks.drift import CHECK, DriftReport, compare
from monitoring.checks.results import Skipped
from monitoring.errors import MonitoringRefused

if TYPE_CHECKING:
    import pandas as pd


def detect_drift(
    reference_data: pd.DataFrame | FeatureMatrix | None = None,
    current_data: pd.DataFrame | FeatureMatrix | None = None,
) -> DriftReport | Skipped:
    """Compare current rows with reference rows; alerts ``warning`` when they have drifted.

    Parameters
    ----------
    reference_data
        Frame or matrix; None takes the profile that travels with the champion.
    current_data
        Likewise; None reads the champion's predictions of ``monitoring.drift.window_hours``.

    Raises
    ------
    MonitoringRefused
        If one is a frame and the other neither a frame nor a matrix of the same features.
    """
    settings = load_settings()
    report = _compare(settings, reference_data, current_data)
    if isinstance(report, DriftReport) and report.has_drifted:
        labels = {"check": "drift"}
        connect.alerts(settings).send(report.summary, "warning", now(), labels, "detect_drift")
    return report


def frame_profiles(
    reference: pd.DataFrame, current: pd.DataFrame
) -> tuple[ReferenceProfile, Profile]:
    """Count two frames with the same columns: numbers as they are, everything else as words.

    Columns that only one of them has are passed over.
    """
    names = [name for name in reference.columns if name in current.columns]
    is_number = {name: _is_number(reference[name], current[name]) for name in names}
    before = tuple(_count_column(str(name), reference[name], is_number[name]) for name in names)
    now = tuple(
        histogram.counted(_encode(current[name], reference[name], is_number[name]))
        for histogram, name in zip(before, names, strict=True)
    )
    empty = Histogram("probability", False, np.zeros(0), np.zeros(1, dtype=np.int64))
    return ReferenceProfile(Profile(before), empty, 0, 0, {}), Profile(now)


def _compare(settings: Settings, reference_data: Any, current_data: Any) -> DriftReport | Skipped:
    config = settings.monitoring.drift
    if reference_data is None and current_data is None:
        return connect.monitor(settings).drift(connect.serving_models(settings), now())
    if reference_data is None or isinstance(current_data, FeatureMatrix):
        reference = _reference(settings, reference_data)
        if isinstance(reference, Skipped):
            return reference
        return compare(reference, _count(reference, current_data), config=config)
    if isinstance(reference_data, FeatureMatrix) or current_data is None:
        raise MonitoringRefused(
            "detect_drift compares a frame with a frame, a matrix with a matrix, or either with "
            "the champion's profile."
        )
    return compare(*frame_profiles(reference_data, current_data), config=config)


def _reference(settings: Settings, data: FeatureMatrix | None) -> ReferenceProfile | Skipped:
    if data is not None:
        none = np.zeros(0, dtype=np.float32)
        return reference_profile(data.values, data.schema, none, [], {})
    serving = connect.serving_models(settings)
    if serving is None or serving.reference is None:
        return Skipped(CHECK, "no deployed version has a profile of its training")
    return serving.reference


def _count(reference: ReferenceProfile, data: pd.DataFrame | FeatureMatrix) -> Profile:
    matrix = feature_matrix(data)
    names = tuple(column.name for column in reference.features.columns)
    if matrix.schema.names != names:
        raise MonitoringRefused(
            f"The reference has the features {', '.join(names[:5])}, … ({len(names)}); given are "
            f"{', '.join(matrix.schema.names[:5])}, … ({len(matrix.schema)})."
        )
    return reference.features.counted(matrix.values)


def _is_number(reference: pd.Series, current: pd.Series) -> bool:
    """Whether a column holds numbers; where the reference holds nothing, the current one says."""
    import pandas as pd

    known = reference if reference.notna().any() else current
    if pd.api.types.is_bool_dtype(known):
        return False
    return bool(pd.api.types.is_numeric_dtype(known) or known.isna().all())


def _count_column(name: str, column: pd.Series, is_number: bool) -> Histogram:
    coded = _encode(column, column, is_number)
    if is_number:
        return numbers(name, coded)
    words = column.dropna().astype(str).nunique()
    return Histogram(name, True, np.zeros(0), np.zeros(words, dtype=np.int64)).counted(coded)


def _encode(column: pd.Series, reference: pd.Series, is_number: bool) -> np.ndarray[Any, Any]:
    """Numbers of a column, or codes of its words in the order of the reference's words."""
    import pandas as pd

    if is_number:
        values: np.ndarray[Any, Any] = pd.to_numeric(column, errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        return values
    words = sorted(reference.dropna().astype(str).unique())
    codes = {word: FIRST_KNOWN + place for place, word in enumerate(words)}
    found = column.astype(object).where(column.notna(), None)
    return np.array(
        [MISSING if word is None else codes.get(str(word), UNSEEN) for word in found],
        dtype=np.float64,
    )

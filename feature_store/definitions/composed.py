"""Attributes that are no column of a vector as they stand: arrays, and timestamps.

An array becomes its places, and timestamps become what functions make of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.arrays import spread
from feature_store.definitions.exact import moments
from feature_store.definitions.view import FeatureView
from feature_store.errors import InvalidValue, UnknownFeature

Column = NDArray[Any]


class Encoded(float):
    """A number or code that is not read again."""


_NOTHING = Encoded("nan")


class ComposedAttributes:
    """Turns a view's arrays and timestamps into raw columns and functions of timestamps.

    Examples
    --------
    >>> view = FeatureView("faces", "face_id")
    >>> _ = view.array("face", 2, description="What the camera saw.")
    >>> dict(ComposedAttributes(view).plain({"face": [1, 2]}))
    {'face_0': 1.0, 'face_1': 2.0}
    """

    def __init__(self, view: FeatureView) -> None:
        self._arrays = view.arrays
        self._timestamps = {name: view.exact[name] for name in view.timestamps}
        self._features = view.timed_features
        self.is_needed = bool(self._arrays or self._timestamps)

    def plain(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raw attributes of one row without arrays and timestamps.

        Raises
        ------
        InvalidValue
            If one is not of its type, or is given without those that a function takes beside it.
        UnknownFeature
            If one is what a function makes of timestamps.
        """
        for feature in self._features:
            if not isinstance(attributes.get(feature.name, _NOTHING), Encoded):
                raise UnknownFeature(
                    f"'{feature.name}' is computed from {' and '.join(feature.inputs)}: give these."
                )
        attributes = spread(attributes, self._arrays)
        if self._timestamps.keys().isdisjoint(attributes):
            return attributes
        times = {
            name: moments([column.read(attributes[name])])
            for name, column in self._timestamps.items()
            if name in attributes
        }
        others = {name: attributes[name] for name in attributes if name not in times}
        made = {name: Encoded(column[0]) for name, column in self.timed(times).items()}
        return others | made

    def columns(self, columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """Encoded columns ``(n,)`` without timestamps, which are datetime64[us]."""
        times = {name: columns[name] for name in self._timestamps if name in columns}
        others = {name: columns[name] for name in columns if name not in times}
        return others | self.timed(times)

    def timed(self, times: Mapping[str, Column]) -> dict[str, Column]:
        """What functions of timestamps make of those that are there.

        Raises
        ------
        InvalidValue
            If one of two timestamps that a function takes is given without the other.
        """
        found: dict[str, Column] = {}
        for feature in self._features:
            lacking = [name for name in feature.inputs if name not in times]
            if len(lacking) == len(feature.inputs) or feature.function is None:
                continue
            if lacking:
                raise InvalidValue(
                    f"{lacking[0]} is absent, expected {' and '.join(feature.inputs)} together, "
                    f"from which '{feature.name}' is computed"
                )
            with np.errstate(all="ignore"):
                found[feature.name] = feature.function(*[times[name] for name in feature.inputs])
        return found

    def of_nothing(self, n: int) -> dict[str, Column]:
        """`timed` of ``n`` rows in which every timestamp is missing."""
        nothing = np.full(n, np.datetime64("NaT", "us"))
        return self.timed(dict.fromkeys(self._timestamps, nothing))

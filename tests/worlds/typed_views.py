"""Small views with arrays, with functions of timestamps, with an open vocabulary."""

from __future__ import annotations

import struct

import numpy as np

from feature_store.definitions.view import FeatureView


def face_view() -> FeatureView:
    view = FeatureView("faces", "user_id", missing=("?",))
    view.raw("age", integer=True, valid_range=(0, 120), description="Its age.")
    view.array("face", 3, unit="1", protected=True, description="What the camera saw.")

    @view.feature()
    def first_two(face_0, face_1):
        "The first two places together."
        return face_0 + face_1

    return view


def visit_view() -> FeatureView:
    view = FeatureView("visits", "user_id", missing=("?",))
    view.raw("age", integer=True, valid_range=(0, 120), description="Its age.")
    view.lookup("came", "timestamp", protected=True, description="When they came.")
    view.lookup("went", "timestamp", description="When they went.")

    @view.feature(unit="h")
    def stayed_h(came, went):
        "How long they stayed."
        return ((went - came) / np.timedelta64(1, "h")).astype(np.float32)

    @view.feature(categories=("night", "day"))
    def time_of_day(came):
        "When they came, roughly."
        hours = (came.astype("datetime64[h]") - came.astype("datetime64[D]")).astype(np.int64)
        return np.where(np.isnat(came), 0, np.where(hours >= 6, 3, 2))

    @view.feature()
    def stayed_by_age(stayed_h, age):
        "Hours a year of age."
        return stayed_h / age

    return view


def city_view(most: int = 4) -> FeatureView:
    view = FeatureView("people", "user_id", missing=("?",))
    view.raw("age", integer=True, valid_range=(0, 120), description="Age.")
    view.raw("city", open_to=most, description="Where they live.")

    @view.feature()
    def lives_somewhere(city):
        "Whether the city is known."
        return (city > 0).astype(np.float32)

    return view


FACES, VISITS = face_view(), visit_view()
FACE = [0.1, 16_777_216, -3e38]
STORED = [struct.unpack("<f", struct.pack("<f", number))[0] for number in FACE]

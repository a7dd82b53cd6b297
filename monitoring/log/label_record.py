"""A label that somebody reported, and its form on disk."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from monitoring.errors import RecordCorrupt

KIND_LABEL = b"LBL1"
"""Kind of a label's record; another layout gets another number."""

_LAYOUT = struct.Struct("<16sqbqq")
_NO_PREDICTION = bytes(16)
_NO_USER = 0  # keys start at 1

Key = bytes | tuple[int | None, int]


@dataclass(frozen=True)
class LabelRecord:
    """What came true: of a prediction, or of a user at a time.

    Parameters
    ----------
    prediction_id
        UUIDv7, 16 bytes; None when a user is named.
    user_id
        None when a prediction is named: its receipt knows the user.
    label
        0 or 1.
    label_time_us
        The time of which the label tells, in microseconds since 1970 in UTC.
    received_at_us
        When it was reported, likewise: of two labels for the same the later one counts.
    """

    prediction_id: bytes | None
    user_id: int | None
    label: int
    label_time_us: int
    received_at_us: int

    @property
    def key(self) -> Key:
        """What the label is about."""
        return self.prediction_id or (self.user_id, self.label_time_us)

    def pack(self) -> bytes:
        """Give the body of the record; `unpack` reads it back."""
        return _LAYOUT.pack(
            self.prediction_id or _NO_PREDICTION,
            self.user_id or _NO_USER,
            self.label,
            self.label_time_us,
            self.received_at_us,
        )

    @classmethod
    def unpack(cls, body: bytes) -> LabelRecord:
        """Read a record's body.

        Raises
        ------
        RecordCorrupt
            If it has another length.
        """
        try:
            prediction_id, user_id, label, label_time_us, received_at_us = _LAYOUT.unpack(body)
        except struct.error as error:
            raise RecordCorrupt(
                f"A label record of {len(body)} bytes cannot be read: {error}."
            ) from error
        return cls(
            None if prediction_id == _NO_PREDICTION else prediction_id,
            None if user_id == _NO_USER else user_id,
            label,
            label_time_us,
            received_at_us,
        )

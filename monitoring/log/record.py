"""The receipt of one prediction, and its form on disk.

A receipt stands for itself: it has all that is needed to score the same vector again with the same
version. Its body is a fixed head, then four parts whose lengths the head names:

=========  ============================================================================
part       meaning
=========  ============================================================================
unit       who was assigned to an arm, UTF-8
context    what all predictions of one arm of one deployment share: `Context` as JSON
vector     the exact feature vector, little-endian float32
outputs    what each scored arm answered, little-endian float64, in the context's order
=========  ============================================================================
"""

from __future__ import annotations

import json
import os
import struct
import threading
from dataclasses import asdict, dataclass, replace
from enum import IntFlag
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import RecordCorrupt

KIND_PREDICTION = b"PRD1"
"""Kind of a prediction's record; another layout gets another number."""

_HEAD = struct.Struct("<16sqqqHHHHB")
_NO_USER, _USER_0 = 0, -(2**63)  # no key is so small
_NO_EVENT = -(2**63)


class Flags(IntFlag):
    """What was special about the features of a prediction."""

    NONE = 0
    REQUEST_ATTRIBUTES = 1
    """Raw attributes came with the request."""
    FEATURES_CACHED = 2
    """The online store did not answer: the last features seen by this process were used."""
    FEATURES_UNAVAILABLE = 4
    """The online store did not answer and nothing was cached: stored features are missing."""
    FEATURES_STALE = 8
    """The stored features are older than the view allows and were taken as missing."""
    FEATURES_OUTDATED = 16
    """The stored features belong to another definition and were taken as missing."""
    DEPLOYMENT_UNCONFIRMED = 32
    """The record of deployments cannot be read: the last one known was served."""
    OVER_BUDGET = 64
    """It took longer than the A/B test allows."""
    CHALLENGER_FAILED = 128
    """It was the turn of the A/B test's challenger, which could not answer: the champion did."""
    FEATURES_NOT_STORED = 256
    """The user named has no stored features: the answer follows from the request's attributes."""

    @property
    def names(self) -> list[str]:
        """Names of the flags that are set, in lower case."""
        return [str(flag.name).lower() for flag in self]


DEGRADED = ~(Flags.REQUEST_ATTRIBUTES | Flags.OVER_BUDGET | Flags.CHALLENGER_FAILED)
"""The flags that make an answer worse than it should be."""


@dataclass(frozen=True)
class ScoredArm:
    """One arm whose model scored the vector; from its threshold on it decides 1."""

    arm: str
    version: int
    model_version: str
    threshold: float | None = None

    @property
    def known(self) -> dict[str, object]:
        """The fields by name, without a threshold where none is kept."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Context:
    """What all predictions answered by one arm of one deployment have in common.

    Parameters
    ----------
    generation, experiment
        The deployment, and the A/B test that it runs if any.
    arm
        Which arm answers.
    propensity
        The probability with which a unit gets this arm.
    scored
        All arms that score; the answering one is among them.
    engine
        What computed the outputs; the same engine gives the same bits again.
    fingerprint
        Of the schema that the vectors follow.
    threshold
        From this probability on the decision is 1.
    caller
        Name of the key that asked; None where no keys are asked for.
    """

    generation: int
    arm: str
    propensity: float
    scored: tuple[ScoredArm, ...]
    experiment: str | None
    engine: str
    fingerprint: str
    threshold: float
    caller: str | None = None

    def of_caller(self, name: str | None) -> Context:
        """The same for one caller."""
        if name == self.caller:
            return self
        known = self._by_caller.get(name)
        if known is None:
            known = self._by_caller[name] = replace(self, caller=name)
        return known

    @cached_property
    def _by_caller(self) -> dict[str | None, Context]:
        return {}

    @cached_property
    def packed(self) -> bytes:
        """The context as JSON."""
        values = asdict(self) | {"scored": [arm.known for arm in self.scored]}
        if self.caller is None:
            del values["caller"]
        return json.dumps(values, separators=(",", ":")).encode()

    @cached_property
    def answering(self) -> int:
        """Place of the answering arm among those that scored."""
        return [scored.arm for scored in self.scored].index(self.arm)

    @staticmethod
    @lru_cache(maxsize=256)
    def unpack(packed: bytes) -> Context:
        """Read what `packed` gives."""
        values = json.loads(packed)
        scored = tuple(ScoredArm(**each) for each in values["scored"])
        return Context(**(values | {"scored": scored}))


@dataclass(frozen=True, eq=False)
class PredictionRecord:
    """The receipt of one prediction.

    Parameters
    ----------
    prediction_id
        UUIDv7, 16 bytes.
    predicted_at_us, event_time_us
        Microseconds since 1970 in UTC: of the answer, and of the stored features if any were used.
    user_id
        None when the request named nobody.
    unit
        What was hashed to choose the arm.
    vector
        float32 ``(p,)``, exactly as it was scored.
    outputs
        Probability of class 1 by every scored arm.
    """

    prediction_id: bytes
    predicted_at_us: int
    user_id: int | None
    unit: str
    event_time_us: int | None
    vector: NDArray[np.float32]
    outputs: tuple[float, ...]
    flags: Flags
    context: Context

    @property
    def uuid(self) -> str:
        """The prediction's id as people write it."""
        return as_text(self.prediction_id)

    @property
    def probability(self) -> float:
        """The output of the answering arm."""
        return self.outputs[self.context.answering]

    @property
    def decision(self) -> int:
        """1 when the probability reaches the threshold, else 0."""
        return int(self.probability >= self.context.threshold)

    def pack(self) -> bytes:
        """Give the body of the record; `unpack` reads it back."""
        return pack_prediction(
            self.prediction_id,
            self.predicted_at_us,
            self.user_id,
            self.unit,
            self.event_time_us,
            self.vector.tobytes(),
            self.outputs,
            self.flags,
            self.context,
        )

    @classmethod
    def unpack(cls, body: bytes) -> PredictionRecord:
        """Read a record's body.

        Raises
        ------
        RecordCorrupt
            If the parts do not add up to the body.
        """
        parts = parts_of(body)
        return cls(
            prediction_id=parts.prediction_id,
            predicted_at_us=parts.predicted_at_us,
            user_id=parts.user_id,
            unit=parts.unit.decode(),
            event_time_us=parts.event_time_us,
            vector=np.frombuffer(parts.vector, "<f4"),
            outputs=parts.outputs,
            flags=Flags(parts.flags),
            context=parts.context,
        )


class Parts(NamedTuple):
    """What the body of a record holds, as far as it can be had without converting anything."""

    prediction_id: bytes
    predicted_at_us: int
    user_id: int | None
    event_time_us: int | None
    unit: bytes
    context: Context
    vector: bytes
    outputs: tuple[float, ...]
    flags: int


@lru_cache(maxsize=16)
def _doubles(n: int) -> struct.Struct:
    return struct.Struct(f"<{n}d")


def parts_of(body: bytes) -> Parts:
    """Take a record's body apart.

    Raises
    ------
    RecordCorrupt
        If the parts do not add up to the body.
    """
    try:
        prediction_id, predicted_at_us, user_id, event_time_us, *sizes = _HEAD.unpack_from(body)
        unit_bytes, context_bytes, p, flags, n_outputs = sizes
        context_at = _HEAD.size + unit_bytes
        vector_at = context_at + context_bytes
        outputs_at = vector_at + 4 * p
        if outputs_at + 8 * n_outputs != len(body):
            raise ValueError(f"its parts end at byte {outputs_at + 8 * n_outputs}")
        context = Context.unpack(body[context_at:vector_at])
        if n_outputs != len(context.scored):
            raise ValueError(f"{n_outputs} outputs of {len(context.scored)} arms")
        unit = body[_HEAD.size : context_at]
        unit.decode()
        return Parts(
            prediction_id,
            predicted_at_us,
            user_of(user_id),
            None if event_time_us == _NO_EVENT else event_time_us,
            unit,
            context,
            body[vector_at:outputs_at],
            _doubles(n_outputs).unpack_from(body, outputs_at),
            flags,
        )
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise RecordCorrupt(
            f"A prediction record of {len(body)} bytes cannot be read: {error}."
        ) from error


def packed_user(user_id: int | None) -> int:
    """The number that stands for a user in a record; users may have the key 0."""
    return user_id or (_NO_USER if user_id is None else _USER_0)


def user_of(packed: int) -> int | None:
    """The user that a number in a record stands for."""
    if packed == _NO_USER:
        return None
    return 0 if packed == _USER_0 else packed


def pack_prediction(
    prediction_id: bytes,
    predicted_at_us: int,
    user_id: int | None,
    unit: str,
    event_time_us: int | None,
    vector: bytes,
    outputs: tuple[float, ...],
    flags: int,
    context: Context,
) -> bytes:
    """Give the body of a `PredictionRecord` whose vector is packed already."""
    encoded_unit, encoded_context = unit.encode(), context.packed
    head = _HEAD.pack(
        prediction_id,
        predicted_at_us,
        packed_user(user_id),
        _NO_EVENT if event_time_us is None else event_time_us,
        len(encoded_unit),
        len(encoded_context),
        len(vector) // 4,
        flags,
        len(outputs),
    )
    packed_outputs = _doubles(len(outputs)).pack(*outputs)
    return b"".join((head, encoded_unit, encoded_context, vector, packed_outputs))


_VERSION_7 = 0x7 << 12
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1


def new_prediction_id(time_us: int) -> bytes:
    """Make a UUIDv7 (RFC 9562) of 16 bytes from a time in microseconds since 1970.

    The 12 bits after the milliseconds hold the fraction of a millisecond (method 3 of section
    6.2), so that ids of one process sort by microsecond; 62 random bits follow.

    Examples
    --------
    >>> from uuid import UUID
    >>> first, second = (UUID(bytes=new_prediction_id(t)) for t in (1_700_000_000_000_000,) * 2)
    >>> first.version, first != second, str(first)[:13]
    (7, True, '018bcfe5-6800')
    """
    return new_prediction_ids(time_us, 1)[0]


def new_prediction_ids(time_us: int, n: int) -> list[bytes]:
    """Make ``n`` ids of one time, all different."""
    milliseconds, microseconds = divmod(time_us, 1000)
    fraction = microseconds * 4096 // 1000
    time = ((milliseconds << 16) | _VERSION_7 | fraction).to_bytes(8, "big")
    random = struct.unpack(f">{n}Q", _random_bytes(8 * n))
    return [time + (_VARIANT | (each & _RANDOM_BITS)).to_bytes(8, "big") for each in random]


_random = bytearray()
_guard = threading.Lock()


def _random_bytes(n: int) -> bytes:
    """Take bytes from the operating system's source, a page of them at a time."""
    with _guard:
        if len(_random) < n:
            _random.extend(os.urandom(max(n, 4096)))
        taken = bytes(_random[-n:])
        del _random[-n:]
        return taken


os.register_at_fork(after_in_child=_random.clear)  # or two processes would make equal ids


def as_text(prediction_id: bytes) -> str:
    """Write an id as people do.

    Examples
    --------
    >>> as_text(bytes(range(16)))
    '00010203-0405-0607-0809-0a0b0c0d0e0f'
    """
    digits = prediction_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def time_us_of(prediction_id: bytes) -> int:
    """Read the time out of what `new_prediction_id` gave, in microseconds since 1970.

    Examples
    --------
    >>> time_us_of(new_prediction_id(1_700_000_000_123_456))
    1700000000123456
    """
    whole = int.from_bytes(prediction_id, "big")
    milliseconds, fraction = whole >> 80, (whole >> 64) & 0xFFF
    return milliseconds * 1000 + -(-fraction * 1000 // 4096)  # rounded up: it was rounded down

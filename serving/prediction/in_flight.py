"""A request on its way through a batch, and the answer that comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from monitoring.log.record import DEGRADED, Flags, as_text, pack_prediction
from serving.deployment.live import LiveArm, LiveDeployment
from serving.errors import UnknownEntity
from serving.prediction.missing_attributes import Unknowns
from serving.prediction.model_features import FeatureInputs, FeatureVersions, ModelFeatures
from serving.prediction.stored_features import StoredFeatures

_DEGRADED = int(DEGRADED)
_REQUEST_ATTRIBUTES = int(Flags.REQUEST_ATTRIBUTES)


class PredictionRequest(NamedTuple):
    """What is asked: about whom, with which raw attributes.

    Parameters
    ----------
    user_id
        Whose stored features to use, by identity; None for none.
    unit_id
        Who is assigned to an arm when no user is named.
    attributes
        Raw attributes by name; they win over stored ones. None says that a value is missing.
    caller
        Name of the key that asks; None where no keys are asked for.
    key
        The user's key as one text, where it is not the identity itself.
    """

    user_id: int | None = None
    unit_id: str | None = None
    attributes: Mapping[str, object] = MappingProxyType({})
    caller: str | None = None
    key: str | None = None

    @property
    def unit(self) -> str | None:
        """Who is assigned to an arm: the user, or the caller's unit, if either is named."""
        return self.unit_id if self.user_id is None else self.key or str(self.user_id)

    @property
    def tells_something(self) -> bool:
        """Whether at least one attribute is given that is not null."""
        return any(value is not None for value in self.attributes.values())


@dataclass
class Answer:
    """What is answered.

    Parameters
    ----------
    missing
        Raw attributes of which nothing is known.
    unseen
        Raw attributes that hold a word which nobody defined: models take all such words as one.
    degraded_reasons
        Why the answer is worse than it should be; empty when it is not.
    """

    prediction: str
    probability: float
    model_version: str
    latency_ms: float
    prediction_id: str
    arm: str
    missing: list[str]
    unseen: list[str]
    degraded: bool
    degraded_reasons: list[str]


@dataclass(slots=True, eq=False)
class InFlightPrediction:
    """One request, and what is known of it so far.

    Parameters
    ----------
    future
        Where the answer, or what went wrong, is put.
    started
        By the monotonic clock, in seconds.
    noted
        Flags that were set while it was scored.
    vector
        The features as packed float32, once they are known.
    other
        In a paired test: what the arm that does not answer said; NaN for nothing usable.
    """

    request: PredictionRequest
    future: asyncio.Future[Answer]
    started: float
    prediction_id: bytes = b""
    id_text: str = ""
    unit: str = ""
    stored: StoredFeatures | None = None
    flags: int = 0
    noted: int = 0
    vector: bytes = b""
    probability: float = 0.0
    other: float | None = None
    unknowns: Unknowns = field(init=False)
    arm: LiveArm = field(init=False)
    features: ModelFeatures = field(init=False)

    @property
    def inputs(self) -> FeatureInputs:
        """What the vector is made of."""
        return self.request.attributes, self.stored

    def identify(self, prediction_id: bytes) -> None:
        """Take an id."""
        self.prediction_id, self.id_text = prediction_id, as_text(prediction_id)

    def assign(self) -> str:
        """Give who is assigned: the user, the caller's unit, or this prediction by its id."""
        self.unit = self.request.unit or self.id_text
        return self.unit

    def choose_arm(self, live: LiveDeployment, versions: FeatureVersions) -> None:
        """Take the arm that answers the unit, and the features that its model takes."""
        self.arm = live.arm_of(self.assign())
        self.features = versions.of(self.arm.model.schema)

    def take_row(self, packed: bytes | None, now_us: int) -> None:
        """Take the row that Redis holds of the user.

        Without one the answer follows from the attributes of the request; there is none if it
        tells of none.
        """
        source = self.features.stored
        try:
            self.stored = source.of_reply(
                self.request.user_id or 0, packed, now_us, self.request.key
            )
        except UnknownEntity as error:
            if self.request.tells_something:
                self.stored = source.not_stored
            else:
                self.fail(error)

    def go_without_store(self, now_us: int) -> None:
        """Take the best there is of the user while Redis does not answer."""
        self.stored = self.features.stored.without_store(self.request.user_id or 0, now_us)

    def receipt(self, now_us: int, flags: int) -> bytes:
        """The body of the receipt; ``flags`` are those of the whole batch."""
        stored, request = self.stored, self.request
        flags |= self.noted
        if stored is not None:
            flags |= stored.flags
        if request.attributes:
            flags |= _REQUEST_ATTRIBUTES
        self.flags = flags
        return pack_prediction(
            self.prediction_id,
            now_us,
            request.user_id,
            self.unit,
            stored.event_time_us if stored is not None else None,
            self.vector,
            (self.probability,) if self.other is None else self._both(self.other),
            flags,
            self.arm.context.of_caller(request.caller),
        )

    def _both(self, other: float) -> tuple[float, float]:
        """What both arms said, champion first."""
        is_champion = self.arm.context.answering == 0
        return (self.probability, other) if is_champion else (other, self.probability)

    def succeed(self, texts: tuple[str, str], ended: float) -> None:
        """Give the answer to the caller, unless it has gone."""
        if self.future.done():
            return
        context, degraded = self.arm.context, self.flags & _DEGRADED
        self.future.set_result(
            Answer(
                prediction=texts[self.probability >= context.threshold],
                probability=self.probability,
                model_version=self.arm.arm.label,
                latency_ms=int((ended - self.started) * 1e6) / 1000,
                prediction_id=self.id_text,
                arm=context.arm,
                missing=self.unknowns.missing,
                unseen=self.unknowns.unseen,
                degraded=degraded != 0,
                degraded_reasons=Flags(degraded).names if degraded else [],
            )
        )

    def fail(self, error: Exception) -> None:
        """Give the caller the error in place of an answer, unless it has disconnected."""
        if not self.future.done():
            self.future.set_exception(error)


def fail_all(batch: Iterable[InFlightPrediction], error: Exception) -> None:
    """Fail every prediction of a batch with one error."""
    for pending in batch:
        pending.fail(error)

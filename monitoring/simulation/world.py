"""A simulated world: visitors in event time, whose labels come late, and what may happen to them.

Visitors are drawn from real rows, so that everything about them but the incidents is real. A day
follows from the seed and its number alone: the same world can be played again, from any day on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.monitoring_config import IncidentConfig, SimulationConfig
from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import MISSING, UNSEEN, FeatureDefinition
from monitoring.errors import MonitoringRefused

FIRST_USER = 1_000_000
"""Visitors are users of their own: nobody in the data has such a key."""
DAY_US = 86_400_000_000
DAYS_BEFORE = 10_000
"""Days may count from below 0; seeds may not."""
DELAY_SPREAD = 0.6
"""Deviation of the logarithm of the time until a label is known."""
TWICE_AFTER_US = 300_000
MOST_WEIGHT = 20.0
"""No row is drawn so many times as often as another: a shift must not be a handful of people."""

Raw = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Visits:
    """The visits of one day, by time.

    Parameters
    ----------
    times_us
        int64 ``(n,)``, microseconds since 1970 in UTC.
    users
        int64 ``(n,)``; a visit that is seen twice has the same user twice.
    values
        float32 ``(n, p)``: the features.
    labels
        int8 ``(n,)``: what will come true.
    known_us
        int64 ``(n,)``: when that is known.
    """

    times_us: NDArray[np.int64]
    users: NDArray[np.int64]
    values: NDArray[np.float32]
    labels: NDArray[np.int8]
    known_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, which: NDArray[Any]) -> Visits:
        """The chosen visits."""
        return Visits(*(column[which] for column in vars(self).values()))


@dataclass(frozen=True)
class World:
    """A world that begins at a time.

    Parameters
    ----------
    raw, labels
        Encoded raw columns ``(n,)`` and labels ``(n,)`` of the people that visitors are drawn from.
    """

    config: SimulationConfig
    engine: Engine
    raw: Raw
    labels: NDArray[np.int8]
    start: datetime

    def __post_init__(self) -> None:
        for incident in self.config.incidents:
            self._refuse_unfit(incident)

    def now(self, day: int) -> datetime:
        """The beginning of a day, counted from 0."""
        return self.start + timedelta(days=day)

    def day(self, number: int) -> Visits:
        """The visits of a day, which may lie before the beginning; none on a day of an outage."""
        random = np.random.default_rng([self.config.seed, number + DAYS_BEFORE])
        n = self.config.visits_a_day
        going_on = list(self._incidents(number))
        if any(incident.kind == "outage" for incident in going_on):
            n = 0
        chosen = random.choice(len(self.labels), size=n, p=self._weights(going_on))
        columns = {name: column[chosen].copy() for name, column in self.raw.items()}
        labels = self._turn_labels(self.labels[chosen].copy(), columns, going_on, random)
        for incident in going_on:
            self._spoil(incident, columns, random)
        begin = int(self.now(number).astimezone(UTC).timestamp()) * 1_000_000
        times = begin + np.sort(random.integers(0, DAY_US - 2 * TWICE_AFTER_US, n))
        visits = Visits(
            times_us=times,
            users=FIRST_USER + number * self.config.visits_a_day + np.arange(n),
            values=self.engine.table(columns) if n else self._no_values,
            labels=labels,
            known_us=times + self._delays_us(labels, going_on, random),
        )
        return _repeat_visits(visits, going_on, random)

    @property
    def _no_values(self) -> NDArray[np.float32]:
        return np.empty((0, len(self.engine.schema)), dtype=np.float32)

    def _incidents(self, day: int) -> Iterator[IncidentConfig]:
        for incident in self.config.incidents:
            if incident.start_day <= day and (incident.end_day is None or day < incident.end_day):
                yield incident

    def _weights(self, going_on: list[IncidentConfig]) -> NDArray[np.float64]:
        """How likely each person is to visit, ``(n,)``: shifts prefer large or small values."""
        weights = np.ones(len(self.labels))
        for incident in going_on:
            if incident.kind == "covariate_shift":
                column = self.raw[str(incident.column)].astype(np.float64)
                known = np.where(np.isnan(column), np.nanmean(column), column)
                apart = (known - known.mean()) / (known.std() or 1.0)
                weights *= np.exp(np.clip(incident.strength * apart, None, np.log(MOST_WEIGHT)))
        likely: NDArray[np.float64] = weights / weights.sum()
        return likely

    def _turn_labels(
        self,
        labels: NDArray[np.int8],
        columns: Raw,
        going_on: list[IncidentConfig],
        random: np.random.Generator,
    ) -> NDArray[np.int8]:
        """Labels ``(n,)``, turned over where concepts have drifted."""
        for incident in going_on:
            if incident.kind == "concept_drift":
                codes = [self._raw(incident).encode(word) for word in incident.words]
                touched = np.isin(columns[str(incident.column)], codes)
                touched &= random.random(len(labels)) < incident.strength
                labels[touched] = 1 - labels[touched]
        return labels

    def _spoil(self, incident: IncidentConfig, columns: Raw, random: np.random.Generator) -> None:
        if incident.kind not in ("lost_column", "new_category"):
            return
        column, feature = columns[str(incident.column)], self._raw(incident)
        touched = random.random(len(column)) < incident.strength
        absent: float = MISSING if feature.kind == "category" else np.nan
        column[touched] = UNSEEN if incident.kind == "new_category" else absent

    def _delays_us(
        self, labels: NDArray[np.int8], going_on: list[IncidentConfig], random: np.random.Generator
    ) -> NDArray[np.int64]:
        median_us = self.config.label_delay_hours * 3.6e9
        for incident in going_on:
            median_us *= incident.strength if incident.kind == "slow_labels" else 1.0
        slower = np.where(labels == 1, self.config.ones_slower, 1.0)
        delays = median_us * slower * np.exp(random.normal(0, DELAY_SPREAD, len(labels)))
        whole: NDArray[np.int64] = delays.astype(np.int64)
        return whole

    def _raw(self, incident: IncidentConfig) -> FeatureDefinition:
        return next(each for each in self.engine.raw if each.name == incident.column)

    def _refuse_unfit(self, incident: IncidentConfig) -> None:
        """Refuse an incident about a column that is not there, or of another kind."""
        if incident.column is None:
            return
        known = {feature.name: feature for feature in self.engine.raw}
        if incident.column not in known:
            raise MonitoringRefused(
                f"An incident is about '{incident.column}', which is no raw column. Known: "
                f"{', '.join(known)}."
            )
        is_category = known[incident.column].kind == "category"
        wanted = {"covariate_shift": False, "concept_drift": True, "new_category": True}
        if wanted.get(incident.kind, is_category) != is_category:
            kind = "category" if wanted[incident.kind] else "number"
            raise MonitoringRefused(
                f"A {incident.kind} needs a {kind}; '{incident.column}' is none."
            )


def _repeat_visits(
    visits: Visits, going_on: list[IncidentConfig], random: np.random.Generator
) -> Visits:
    """Repeat some visits a moment later, where they are seen twice."""
    share = sum(incident.strength for incident in going_on if incident.kind == "duplicates")
    again = visits.rows(random.random(len(visits)) < share)
    if not len(again):
        return visits
    times = np.concatenate([visits.times_us, again.times_us + TWICE_AFTER_US])
    both = Visits(
        times_us=times,
        users=np.concatenate([visits.users, again.users]),
        values=np.concatenate([visits.values, again.values]),
        labels=np.concatenate([visits.labels, again.labels]),
        known_us=np.concatenate([visits.known_us, again.known_us]),
    )
    return both.rows(np.argsort(times, kind="stable"))

"""Skew: whether logged vectors are what the offline store says, as it was known at that time.

Each logged vector is looked up, or computed, again. Where a value differs, the rows around it tell
why:

===========  ======================================================================================
cause        what is seen
===========  ======================================================================================
version      the online row followed another definition of the view and was taken as missing
ttl          features were used beyond the age that the view allows, or left out within it
late data    the vector is that of another row of the user: one store learned of it before the other
code         from the same raw values the serving code computed other features
unexplained  none of these
===========  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.offline.newest_rows import utc_times
from feature_store.offline.tables import row_digests
from feature_store.offline_store import OfflineStore, missing_vector
from monitoring.checks.results import CheckReport
from monitoring.log.reader import Vectors

if TYPE_CHECKING:
    import polars as pl


SHOWN = 5
"""Prediction ids that are shown of each cause."""


@dataclass(frozen=True)
class FeatureSkew:
    """How often a feature's logged value was another one, by cause."""

    name: str
    mismatches: int
    causes: Mapping[str, int]


@dataclass(frozen=True)
class SkewReport(CheckReport):
    """What became of the vectors of a window.

    Parameters
    ----------
    n
        Predictions whose vector was found or computed again.
    left_out
        Predictions that could not be, by reason.
    mismatches
        Predictions with at least one other value.
    causes
        Of those, by cause.
    features
        Each feature that differs anywhere, the most often first.
    examples
        Some prediction ids of each cause.
    """

    n: int
    left_out: Mapping[str, int]
    mismatches: int
    causes: Mapping[str, int]
    features: tuple[FeatureSkew, ...]
    examples: Mapping[str, tuple[str, ...]]

    @property
    def share(self) -> float:
        """Share of the predictions with another value."""
        return self.mismatches / self.n if self.n else 0.0

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.mismatches:
            return f"No skew: {self.n:,} vectors are those of the offline store, to the bit"
        causes = ", ".join(f"{cause} {n:,}" for cause, n in self.causes.items())
        names = ", ".join(each.name for each in self.features[:5])
        return f"{self.mismatches:,} of {self.n:,} vectors differ ({causes}): {names}"

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return super().to_json() | {"share": self.share}

    def merged(self, other: SkewReport) -> SkewReport:
        """Both together."""
        features = [*self.features, *other.features]
        names = dict.fromkeys(each.name for each in features)
        joined = [_join(name, [each for each in features if each.name == name]) for name in names]
        return SkewReport(
            self.n + other.n,
            _add_counts(self.left_out, other.left_out),
            self.mismatches + other.mismatches,
            _add_counts(self.causes, other.causes),
            tuple(sorted(joined, key=lambda each: -each.mismatches)),
            {**other.examples, **self.examples},
        )


NOTHING = SkewReport(0, {}, 0, {}, (), {})


def _add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _join(name: str, parts: Sequence[FeatureSkew]) -> FeatureSkew:
    causes: dict[str, int] = {}
    for part in parts:
        causes = _add_counts(causes, part.causes)
    return FeatureSkew(name, sum(part.mismatches for part in parts), causes)


COLUMNS = "prediction_id::text AS prediction_id, user_id, predicted_at, feature_event_time, flags"
"""What the audit needs to know of a prediction beside its vector."""
Mask = NDArray[np.bool_]


class SkewAudit:
    """Computes logged vectors again.

    Parameters
    ----------
    offline, engine, ttl
        The store, this code's features, and the age beyond which a row reads as missing.
    """

    def __init__(self, offline: OfflineStore, engine: Engine, ttl: timedelta | None) -> None:
        self.offline = offline
        self.engine = engine
        self.ttl = ttl

    def audit(self, logged: Vectors, schema: FeatureSchema) -> SkewReport:
        """Audit predictions whose vectors follow a schema; their frame has `COLUMNS`."""
        flags = logged.frame["flags"]
        degraded = _has(flags, "features_cached") | _has(flags, "features_unavailable")
        by_request = _has(flags, "request_attributes")
        has_user = logged.frame["user_id"].is_not_null().to_numpy()
        stored = has_user & ~by_request & ~degraded
        left_out = {"degraded": int(degraded.sum())} if degraded.any() else {}
        report = replace(NOTHING, left_out=left_out)
        if stored.any():
            part = _rows(logged, stored)
            report = report.merged(self._of_stored(part, schema))
        rest = ~stored & ~degraded
        if rest.any():
            report = report.merged(self._of_requests(_rows(logged, rest), schema))
        return report

    def _of_stored(self, logged: Vectors, schema: FeatureSchema) -> SkewReport:
        """What the offline store says of them, as a reader would have got it at each time."""
        then = self.offline.as_of(
            schema,
            self.engine.view.entity,
            logged.frame["user_id"].to_numpy(),
            utc_times(logged.frame["predicted_at"]),
            ttl=self.ttl,
            known=True,
        )
        then = replace(then, values=schema.known_codes(then.values))
        differs = ~same_bits(logged.values, then.values)
        rows = np.asarray(differs.any(axis=1), dtype=bool)
        causes = np.full(len(logged), "", dtype=object)
        if not rows.any():
            return _report(logged, schema, differs, causes)
        causes[rows] = self._causes(_rows(logged, rows), schema, then.rows(rows))
        return _report(logged, schema, differs, causes)

    def _of_requests(self, logged: Vectors, schema: FeatureSchema) -> SkewReport:
        """Compare derived values with those that this code computes from the same raw values."""
        again = self._derive_again(logged.values, schema)
        if again is None:
            return replace(NOTHING, left_out={"attributes of another definition": len(logged)})
        differs = ~same_bits(logged.values, again)
        causes = np.where(differs.any(axis=1), "code", "").astype(object)
        return _report(logged, schema, differs, causes)

    def _causes(
        self, logged: Vectors, schema: FeatureSchema, then: FeatureMatrix
    ) -> NDArray[np.object_]:
        """The cause for each row ``(n,)``; all of them differ from what is expected."""
        frame, differs = logged.frame, ~same_bits(logged.values, then.values)
        events, flags = utc_times(frame["feature_event_time"]), frame["flags"]
        # What is computed from timestamps comes in, too: they are not among the features.
        ours = set(self.engine.schema.names)
        raw = np.array([ours.isdisjoint(feature.inputs) for feature in schema.features])
        again = self._derive_again(logged.values, schema)
        follows = (
            np.ones(len(logged), dtype=bool)
            if again is None
            else same_bits(logged.values, again).all(axis=1)
        )
        is_absent = same_bits(logged.values, missing_vector(schema)).all(axis=1)
        is_expired = self._is_expired(utc_times(frame["predicted_at"]), events) & ~is_absent
        is_other_row = (events != then.times) | self._is_of_another_row(logged, schema)
        chosen: NDArray[np.object_] = np.select(
            [
                _has(flags, "features_outdated"),
                _has(flags, "features_stale") | is_expired,
                ~follows,
                is_other_row,
                ~differs[:, raw].any(axis=1),
            ],
            ["version", "ttl", "code", "late data", "code"],
            default="unexplained",
        ).astype(object)
        return chosen

    def _is_of_another_row(self, logged: Vectors, schema: FeatureSchema) -> Mask:
        """Whether the store has, or had, a row of the user with exactly this vector."""
        found = np.zeros(len(logged), dtype=bool)
        if schema.whole is not None or schema.exact:  # digests are those of whole rows
            return found
        digests = [UUID(bytes=bytes(each)) for each in row_digests(logged.values)]
        users = logged.frame["user_id"].to_list()
        query = (
            "SELECT asked.place FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY "
            "AS asked (key, digest, place) WHERE EXISTS (SELECT FROM "
            f"{self.offline.table(schema)} AS stored WHERE stored.{self.engine.view.entity} = "
            "asked.key AND stored.row_digest = asked.digest)"
        )
        with self.offline.postgres.transaction() as connection:
            rows = connection.execute(query, (users, digests)).fetchall()
        found[[place - 1 for (place,) in rows]] = True
        return found

    def _is_expired(
        self, times: NDArray[np.datetime64], events: NDArray[np.datetime64]
    ) -> NDArray[np.bool_]:
        if self.ttl is None:
            return np.zeros(len(times), dtype=bool)
        expired: NDArray[np.bool_] = times - events > np.timedelta64(self.ttl)
        return expired

    def _derive_again(
        self, values: NDArray[np.float32], schema: FeatureSchema
    ) -> NDArray[np.float32] | None:
        """The vectors computed from their own raw values; None if these are not all there."""
        ours = self.engine.schema
        if schema.definition_fingerprint != ours.fingerprint or len(schema) != len(ours):
            return None
        places = [schema.position(feature.name) for feature in self.engine.raw]
        columns = {
            feature.name: np.ascontiguousarray(values[:, place])
            for feature, place in zip(self.engine.raw, places, strict=True)
        }
        return self.engine.table(columns)


def same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which values are the same to the bit; all NaN are one."""
    one, other = np.broadcast_arrays(one, other)
    same = np.ascontiguousarray(one).view(np.uint32) == np.ascontiguousarray(other).view(np.uint32)
    equal: NDArray[np.bool_] = same | (np.isnan(one) & np.isnan(other))
    return equal


def _report(
    logged: Vectors, schema: FeatureSchema, differs: Mask, causes: NDArray[np.object_]
) -> SkewReport:
    rows = differs.any(axis=1)
    found = {cause: int((causes[rows] == cause).sum()) for cause in dict.fromkeys(causes[rows])}
    features = [
        FeatureSkew(
            name,
            int(differs[:, place].sum()),
            {cause: int((differs[:, place] & (causes == cause)).sum()) for cause in found},
        )
        for place, name in enumerate(schema.names)
        if differs[:, place].any()
    ]
    ids = logged.frame["prediction_id"].to_numpy()
    examples = {cause: tuple(map(str, ids[causes == cause][:SHOWN])) for cause in found}
    ranked = tuple(sorted(features, key=lambda each: -each.mismatches))
    return SkewReport(len(logged), {}, int(rows.sum()), found, ranked, examples)


def _has(flags: pl.Series, name: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = flags.list.contains(name).fill_null(False).to_numpy()
    return found


def _rows(logged: Vectors, which: Mask) -> Vectors:
    import polars as pl

    return Vectors(
        logged.values[which], logged.probabilities[which], logged.frame.filter(pl.Series(which))
    )

"""What was written: a receipt of each chunk, and the manifest of them all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from pipelines.batch.errors import OutputUnusable
from pipelines.batch.keys import combine_checksums
from pipelines.batch.plan import Plan

FORMAT = 1
MANIFEST = "_manifest.json"
"""Readers of Parquet folders pass over names that begin with an underscore."""
BINS = 20


@dataclass(frozen=True)
class OutputFile:
    """One file of predictions.

    Parameters
    ----------
    chunk
        Which chunk it holds.
    file, rows, size, sha256
        Its name, rows, bytes and digest.
    checksum
        `key_checksum` of its keys.
    without_features
        Rows whose entity had no stored features.
    positive
        Rows whose prediction is class 1.
    histogram
        Rows by probability, in 20 bins of equal width.
    """

    chunk: int
    file: str
    rows: int
    size: int
    sha256: str
    checksum: int
    without_features: int
    positive: int
    histogram: tuple[int, ...]

    def to_json(self) -> bytes:
        """The receipt as JSON; `from_json` reads it back."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> OutputFile:
        """Read what `to_json` gave."""
        return TypeAdapter(cls).validate_json(content)


@dataclass(frozen=True)
class Totals:
    """All receipts of a run together."""

    rows: int
    checksum: int
    without_features: int
    positive: int
    histogram: tuple[int, ...]

    @classmethod
    def of(cls, receipts: Sequence[OutputFile]) -> Totals:
        """Add them up."""
        return cls(
            rows=sum(each.rows for each in receipts),
            checksum=combine_checksums(each.checksum for each in receipts),
            without_features=sum(each.without_features for each in receipts),
            positive=sum(each.positive for each in receipts),
            histogram=tuple(map(sum, zip(*(each.histogram for each in receipts), strict=True))),
        )


def manifest_json(plan: Plan, receipts: Sequence[OutputFile], engine: str) -> bytes:
    """The manifest of a complete output.

    Raises
    ------
    OutputUnusable
        If a row of the plan is missing or there twice.
    """
    totals = Totals.of(receipts)
    wanted = [chunk.index for chunk in plan.chunks]
    if (
        [each.chunk for each in receipts] != wanted
        or totals.rows != plan.rows
        or totals.checksum != plan.checksum
    ):
        raise OutputUnusable(
            f"{totals.rows:,} rows were written with key checksum {totals.checksum:016x}; expected "
            f"{plan.rows:,} with {plan.checksum:016x}. The input changed meanwhile: run again."
        )
    about = {
        "format": FORMAT,
        "run": plan.id,
        "engine": engine,
        "rows": totals.rows,
        "key_checksum": f"{totals.checksum:016x}",
        "model": asdict(plan.model),
        "input": {"kind": plan.kind, "places": plan.places, "rows_limit": plan.limit},
        "as_of": plan.as_of.isoformat(),
        "scored_at": plan.scored_at.isoformat(),
        "rows_without_features": totals.without_features,
        "rows_positive": totals.positive,
        "probability_histogram": totals.histogram,
        "files": [
            {"name": each.file, "rows": each.rows, "bytes": each.size, "sha256": each.sha256}
            for each in receipts
        ],
    }
    return (json.dumps(about, indent=1) + "\n").encode()


WIDTH = 40
LINES = 10


def histogram(counts: Sequence[int]) -> list[str]:
    """Rows by probability as lines of a bar chart.

    Examples
    --------
    >>> for line in histogram([4, 0, 0, 0, 0, 0, 0, 0, 2, 1])[-2:]:
    ...     print(line)
    0.8–0.9 ████████████████████ 2
    0.9–1.0 ██████████ 1
    """
    each = len(counts) // LINES
    sums = [sum(counts[place : place + each]) for place in range(0, len(counts), each)]
    most = max(*sums, 1)
    return [
        f"{place / LINES:.1f}–{(place + 1) / LINES:.1f} {'█' * round(WIDTH * n / most)} {n:,}"
        for place, n in enumerate(sums)
    ]


def summary(totals: Totals, texts: tuple[str, str], threshold: float) -> list[str]:
    """The summary as lines."""
    share = totals.positive / totals.rows
    lines = [f"{totals.positive:,} ({share:.1%}) are {texts[1]}: from {threshold:.3f} on"]
    if totals.without_features:
        lines.append(
            f"{totals.without_features:,} had no stored features: their 'feature_event_time' is "
            "null, and all features are missing"
        )
    return [*lines, "rows by probability", *histogram(totals.histogram)]

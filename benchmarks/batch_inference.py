"""Batch inference against its limit: XGBoost's bulk call on a matrix that is in memory already.

``features`` goes from a Parquet file of features to the published predictions, ``attributes`` from
one of raw attributes that must be engineered first; ``limit`` only predicts, on all cores. Each
subject runs in a process of its own, in turn with the others. ``peak`` is by how much its memory
rose.

People are the real ones, drawn again and perturbed; a million or ten of them, or ``--rows``. They
are written below a temporary folder, or ``--data FOLDER``, where they stay for another run
(``--make`` only makes them).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.harness.memory import fresh_process
from benchmarks.harness.report import Report, is_quick
from benchmarks.harness.shipped_model import shipped_artifact
from benchmarks.subjects.batch_rows import make_people
from models.artifact.artifact import open_artifact

ROWS, QUICK_ROWS = (1_000_000, 10_000_000), (50_000, 200_000)
SUBJECTS = ("limit", "features", "attributes")
ROUNDS = 3
PUBLISHED_RATE = 25_000
"""Rows a second that a published cluster job of this kind reports."""
FLAT = 1.25
"""So many times the memory of a tenth of the rows still counts as the same."""


def make(folder: Path, sizes: Sequence[int]) -> None:
    """Train the model and write the people, unless they are there."""
    from benchmarks.harness.stage import real_rows
    from configs.settings import load_settings

    if not (folder / "model").exists():
        aside = folder / "model.aside"
        aside.mkdir(parents=True)
        shipped_artifact(aside)
        aside.rename(folder / "model")
    open_artifact(folder / "model")
    for rows in sizes:
        if not (folder / str(rows)).exists():
            aside = folder / f"{rows}.aside"
            make_people(aside, rows, real_rows(load_settings())[0])
            aside.rename(folder / str(rows))


def measure(report: Report, folder: Path, rows: int, subjects: Sequence[str], rounds: int) -> None:
    """Run the subjects in turn."""
    runs: dict[str, list[dict[str, float]]] = {subject: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            runs[subject].append(fresh_process("subjects.batch_subject", subject, folder, rows))
    for metric, unit in {"rate": "rows/s", "peak": "MiB"}.items():
        found = {subject: [each[metric] for each in runs[subject]] for subject in subjects}
        report.add(f"{metric}_of_{rows}", unit, found)
    for subject in subjects[1:]:
        report.ratio(subject, subjects[0], f"rate_of_{rows}")


def set_targets(report: Report, sizes: Sequence[int]) -> None:
    """What is expected of the figures."""
    small, large = sizes[0], sizes[-1]
    for rows in sizes:
        report.target(f"features_over_limit_rate_of_{rows}", ">=", 0.7)
        report.target(f"attributes_over_limit_rate_of_{rows}", ">=", 0.5)
    report.target(f"features_rate_of_{large}", ">=", PUBLISHED_RATE)
    for subject in ("features", "attributes"):
        if large > small:
            more, less = (report.median(subject, f"peak_of_{n}") for n in (large, small))
            name = f"{subject}_peak_{large}_over_{small}"
            report.ratios[name] = more / less
            report.target(name, "<=", FLAT)


def options_of(sizes: Sequence[int], about: str | None) -> argparse.Namespace:
    """The options of the command line; ``rows`` are those sizes unless others are given."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, nothing written")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of people")
    parser.add_argument("--data", type=Path, help="where people and model are kept")
    parser.add_argument("--make", action="store_true", help="only make them")
    options = parser.parse_args()
    options.rows = options.rows or sizes
    return options


def main() -> int:
    """Make people, and measure."""
    options = options_of(QUICK_ROWS if is_quick() else ROWS, __doc__)
    sizes = options.rows
    report = Report("batch_inference", packages=["numpy", "pyarrow", "xgboost-cpu"])
    with nullcontext(options.data) if options.data else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, sizes)
        if options.make:
            return 0
        for rows in sizes:
            rounds = ROUNDS if rows == sizes[0] and not is_quick() else 1
            measure(report, folder, rows, SUBJECTS, rounds)
    set_targets(report, sizes)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

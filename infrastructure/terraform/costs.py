"""What an installation costs a month: ``python infrastructure/terraform/costs.py``.

Prices come from ``prices.yaml`` beside this file, which says when they were typed in and that they
were not verified; sizes are those of ``modules/sizing``. Loads are assumptions, named below.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PRICES = Path(__file__).with_name("prices.yaml")
DAYS = 30
RECEIPT_BYTES = 700
"""Of a row of ``predictions`` with its indexes: 47 floats, ids, texts."""
ANSWER_BYTES = 1_200
"""Of an answer and the protocol's overhead, out to the internet."""
LOG_BYTES = 0.02 * 300
"""One request in fifty leaves a line."""
KEPT_MONTHS = 3
"""What stays in PostgreSQL; older months are dropped."""
REQUESTS_A_VCPU = 400
"""A second that one vCPU answers with room to spare; benchmarks measure far more."""
PEAK = 3
"""Busiest hour over the mean."""


@dataclass(frozen=True)
class ExpectedLoad:
    """What an installation has to bear.

    Parameters
    ----------
    size
        Of ``modules/sizing``.
    predictions_a_day
        Through the API.
    multi_az
        Whether stores and NAT gateways are there twice.
    """

    name: str
    size: str
    predictions_a_day: float
    multi_az: bool


LOADS = (
    ExpectedLoad("small, 0.5 M a day", "small", 0.5e6, multi_az=False),
    ExpectedLoad("10 M a day", "large", 10e6, multi_az=True),
)
SIZES: dict[str, dict[str, Any]] = {
    "small": {
        **{"api": (2, 0.5, 1), "workers": (2, 0.25, 1)},
        **{"database": "db.t4g.medium", "database_gb": 50, "cache": "cache.t4g.small"},
    },
    "large": {
        **{"api": (3, 1, 2), "workers": (2, 1, 4)},
        **{"database": "db.r7g.large", "database_gb": 500, "cache": "cache.r7g.large"},
    },
}
MLFLOW = (1, 0.5, 2)


def costs(load: ExpectedLoad, book: dict[str, Any]) -> dict[str, float]:
    """Give the USD a month of each part of an installation.

    Examples
    --------
    >>> book = yaml.safe_load(PRICES.read_text())
    >>> sum(costs(LOADS[0], book).values()) <= 400
    True
    """
    price, hours = book["prices"], book["hours_a_month"]
    size, copies = SIZES[load.size], 2 if load.multi_az else 1
    month = load.predictions_a_day * DAYS
    stored_gb = max(size["database_gb"], month * RECEIPT_BYTES * KEPT_MONTHS / 1e9)
    moved_gb = month * ANSWER_BYTES / 1e9
    units = max(1.0, load.predictions_a_day / 86_400 * PEAK / 25)
    return {
        "API": _tasks(api_tasks(load), price, hours),
        "stream worker, monitoring": _tasks(size["workers"], price, hours),
        "MLflow": _tasks(MLFLOW, price, hours),
        "PostgreSQL": copies * price[f"{size['database']}_hour"] * hours
        + copies * stored_gb * price["database_gb_month"],
        "Redis": copies * price[f"{size['cache']}_hour"] * hours,
        "NAT gateway": copies * price["nat_hour"] * hours + 20 * price["nat_gb"],
        "load balancer": (price["balancer_hour"] + units * price["balancer_unit_hour"]) * hours,
        "transfer out": moved_gb * price["transfer_gb"],
        "logs": month * LOG_BYTES / 1e9 * price["logs_gb"],
        "files, secrets, key": 20 * price["efs_gb_month"]
        + 50 * price["s3_gb_month"]
        + 4 * price["secret_month"]
        + price["kms_key_month"],
    }


def api_tasks(load: ExpectedLoad) -> tuple[float, float, float]:
    """How many tasks of which size answer the busiest hour; never fewer than the least."""
    least, vcpu, gb = SIZES[load.size]["api"]
    needed = load.predictions_a_day / 86_400 * PEAK / (REQUESTS_A_VCPU * vcpu)
    return max(least, -(-needed // 1)), vcpu, gb


def table(loads: tuple[ExpectedLoad, ...], book: dict[str, Any]) -> str:
    """Give the costs of several installations as a Markdown table."""
    columns = [costs(load, book) for load in loads]
    lines = ["| USD a month | " + " | ".join(load.name for load in loads) + " |"]
    lines.append("|---|" + "---:|" * len(loads))
    lines += [
        f"| {part} | " + " | ".join(f"{column[part]:,.0f}" for column in columns) + " |"
        for part in columns[0]
    ]
    totals = " | ".join(f"**{sum(column.values()):,.0f}**" for column in columns)
    return "\n".join([*lines, f"| **in all** | {totals} |"])


def main() -> None:
    """Print the table with what it rests on."""
    parser = argparse.ArgumentParser(description="Costs a month on AWS, by the prices beside it.")
    parser.add_argument("--prices", type=Path, default=PRICES, help="another price file")
    book = yaml.safe_load(parser.parse_args().prices.read_text())
    state = "verified" if book["verified"] else "not verified"
    print(f"Prices of {book['dated']}, {state}, without taxes.\n\n{table(LOADS, book)}")


def _tasks(tasks: tuple[float, float, float], price: dict[str, float], hours: float) -> float:
    n, vcpu, gb = tasks
    return n * (vcpu * price["fargate_vcpu_hour"] + gb * price["fargate_gb_hour"]) * hours


if __name__ == "__main__":
    main()

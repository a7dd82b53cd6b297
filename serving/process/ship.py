"""``python -m serving ship``: what waits on this host goes to PostgreSQL now.

Run it before a pod or host goes away, and after one died whose disk is left. It may run beside
the API: the first to commit a record has shipped it.
"""

from __future__ import annotations

import argparse
import sys
import time

from configs.errors import FTIError, reason_of
from configs.settings import load_settings
from models.connect import postgres
from monitoring.log.shipper import PredictionShipper

RETRY_S = 0.5


def ship_now(words: list[str]) -> int:
    """Ship receipts and labels until none waits or the time is up; return the exit code."""
    limit_s = _parse(words).limit_s
    try:
        settings = load_settings(database_role="api")
    except FTIError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    shipper = PredictionShipper(settings.var_dir / "predictions", postgres(settings))
    try:
        shipped = ship(shipper, time.monotonic() + limit_s)
    except (OSError, FTIError) as error:
        print(
            f"✗ Not all is shipped: {reason_of(error)} What is left stays on the disk; "
            "the next process that runs here ships it.",
            file=sys.stderr,
        )
        return 1
    finally:
        shipper.close()
    print(f"✓ Shipped {shipped:,} records")
    return 0


def ship(shipper: PredictionShipper, deadline_s: float) -> int:
    """Ship all that there is, again and again until it is done; give how much it was.

    Raises
    ------
    OSError, FTIError
        What kept the rest from being shipped when the time was up.
    """
    while True:
        try:
            return shipper.run_once()
        except (OSError, FTIError):
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(RETRY_S)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m serving ship",
        description="Ship the receipts and labels that wait on this host to PostgreSQL.",
    )
    parser.add_argument(
        "--limit-s", type=float, default=20, help="longest time to try, by default 20 seconds"
    )
    return parser.parse_args(words)

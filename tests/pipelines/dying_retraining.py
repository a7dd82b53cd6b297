"""A retraining whose process is killed at a point: ``… dying_retraining POINT``."""

from __future__ import annotations

import os
import signal
import sys

from configs.settings import load_settings
from models.deployment.promotion import Promoter
from models.gates.admission import DecisionStore
from monitoring.retraining_requests import RetrainingStore
from pipelines.retraining import retrain


def die(*arguments: object, **options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_move(status: str, before: bool) -> None:
    move = RetrainingStore.move

    def dies(self, request, to, *arguments, **options):
        if to == status and before:
            die()
        moved = move(self, request, to, *arguments, **options)
        if to == status:
            die()
        return moved

    RetrainingStore.move = dies  # type: ignore[method-assign]


def main() -> None:
    point = sys.argv[1]
    if point == "registered, never judged":
        DecisionStore.add = die  # type: ignore[assignment]
    elif point == "registry changed, nothing recorded":
        Promoter._point_aliases = die  # type: ignore[assignment]
    else:
        when, status = point.split(" ")
        dying_move(status, when == "before")
    retrain(load_settings())


if __name__ == "__main__":
    main()

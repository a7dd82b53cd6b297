"""How programs that use the same cores get along."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Let threads that wait for each other sleep; call it before XGBoost or scikit-learn is loaded.

    By default they spin, and on cores that other programs use too a training then takes many
    times as long. On free cores it makes no difference. Both libraries bring the same OpenMP, of
    which the first one loaded serves both, and which reads this once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""Which arm answers whom: pure, sticky, and the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from models.deployment.record import BUCKETS, Arm


def bucket_of(unit: str, salt: str) -> int:
    """Hash a unit of an experiment into one of 10,000 buckets.

    Parameters
    ----------
    unit
        Who is assigned: mostly a user. The same unit always gets the same bucket.
    salt
        The experiment's own, so that two experiments divide users independently.

    Examples
    --------
    >>> bucket_of("12345", "income/xgb-v2") == bucket_of("12345", "income/xgb-v2")
    True
    """
    digest = hashlib.blake2b(f"{salt}\0{unit}".encode(), digest_size=8).digest()
    # 2**64 is no multiple of 10,000; the bias is below 1e-15.
    return int.from_bytes(digest, "big") % BUCKETS


def choose(arms: Sequence[Arm], bucket: int) -> int:
    """Give the place of the arm whose half-open range holds the bucket.

    Examples
    --------
    >>> champion = Arm("champion", 1, "xgb-v1", "", "", 0, 9_000)
    >>> challenger = Arm("challenger", 2, "xgb-v2", "", "", 9_000, 10_000)
    >>> [choose([champion, challenger], bucket) for bucket in (0, 8_999, 9_000, 9_999)]
    [0, 0, 1, 1]
    """
    for place, arm in enumerate(arms):
        if arm.first_bucket <= bucket < arm.last_bucket:
            return place
    raise ValueError(f"No arm answers bucket {bucket} of {BUCKETS}: {list(arms)}.")

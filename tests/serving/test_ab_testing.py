from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from models.deployment.ab_tests import start_ab_test
from models.deployment.record import BUCKETS, Arm, deploy
from serving.ab_testing import bucket_of, choose

NOW = datetime(2026, 1, 1, tzinfo=UTC)
USERS = [str(user) for user in range(1, 48_843)]


def in_test(share: float):
    arms = [Arm("champion", v, f"xgb-v{v}", "", "") for v in (1, 2)]
    return start_ab_test(deploy(None, arms[0], NOW), arms[1], share, "salt", NOW)


def challenged(share: float) -> set[str]:
    deployment = in_test(share)
    return {u for u in USERS if choose(deployment.arms, bucket_of(u, deployment.salt)) == 1}


@given(st.text(max_size=128), st.text(max_size=50))
def test_a_unit_has_one_bucket(unit, salt):
    bucket = bucket_of(unit, salt)

    assert bucket == bucket_of(unit, salt)
    assert 0 <= bucket < BUCKETS


def test_the_hash_is_the_same_in_every_release():
    assert [bucket_of(unit, "salt") for unit in ("1", "2", "a")] == [4914, 1002, 6775]


def test_the_challenger_gets_its_share_of_users():
    assert len(challenged(0.1)) / len(USERS) == pytest.approx(0.1, abs=0.005)


def test_widening_moves_nobody_back():
    shares = [challenged(share) for share in (0.01, 0.1, 0.5, 0.9)]

    assert all(narrow < wide for narrow, wide in pairwise(shares))


def test_two_salts_divide_users_independently():
    first = {unit for unit in USERS if bucket_of(unit, "one") < 1_000}
    second = {unit for unit in USERS if bucket_of(unit, "two") < 1_000}

    assert len(first & second) / len(USERS) == pytest.approx(0.01, abs=0.002)


def test_buckets_are_even():
    counts = Counter(bucket_of(unit, "salt") // 1_000 for unit in USERS)

    assert max(counts.values()) / min(counts.values()) < 1.1


def test_a_bucket_that_no_arm_answers_is_a_defect():
    with pytest.raises(ValueError, match="No arm answers bucket 9999"):
        choose([Arm("champion", 1, "xgb-v1", "", "", 0, 9_000)], 9_999)

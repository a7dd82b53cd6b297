"""What answers, and on what: ``GET /model`` and ``GET /features/{user_id}``."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.rows import missing_in, random_matrix
from tests.worlds.serving import now, running_api


def test_the_model_tells_arms_shares_and_lineage(world):
    world.deploy(1)
    deployment = world.start_ab_test(2, share=0.3)
    with running_api(world) as api:
        answer = api.get("/model").json()

    assert (answer["generation"], answer["experiment"]) == (2, deployment.experiment)
    assert (answer["action"], answer["confirmed"]) == ("start_ab_test", True)
    champion, challenger = answer["arms"]
    assert (champion["model_version"], champion["share"]) == ("income-xgb-v1", 0.7)
    assert (challenger["model_version"], challenger["share"]) == ("income-xgb-v2", 0.3)
    assert champion["schema_fingerprint"] == MODEL_VIEW.schema.fingerprint
    assert champion["digest"] == world.artifacts.arm(1).digest
    assert champion["lineage"]["training"]["family"] == "xgboost"
    # No MLflow behind the artifacts of this world: that is said, and no more.
    assert champion["lineage"]["registry"] == {}
    assert "404" in champion["lineage"]["problem"]


def test_without_a_deployment_there_is_no_model_but_there_are_features(world):
    with running_api(world) as api:
        assert api.get("/model").status_code == 503
        assert api.get("/features/7").status_code == 200


def test_the_features_of_a_user_are_named_timed_and_in_words(api, shared_world):
    answer = api.get("/features/42").json()

    vector = shared_world.matrix.values[41]
    assert answer["features"] == MODEL_VIEW.schema.decode(vector)
    assert answer["missing"] == missing_in(vector)
    assert answer["event_time"] == "2026-01-01T00:42:00Z"
    age_s = datetime.now(UTC).timestamp() - datetime(2026, 1, 1, 0, 42, tzinfo=UTC).timestamp()
    assert answer["age_s"] == pytest.approx(age_s, abs=60)
    created = datetime.fromisoformat(answer["created_time"]).timestamp()
    assert 0 <= time.time() - created < 3600
    assert (answer["stale"], answer["outdated"]) == (False, False)


def test_every_user_gets_their_own_features(api, shared_world):
    for user in range(1, 301, 13):
        vector = shared_world.matrix.values[user - 1]
        assert api.get(f"/features/{user}").json()["features"] == MODEL_VIEW.schema.decode(vector)


@pytest.mark.parametrize(
    ("user", "status"),
    [("999999", 404), ("0", 404), ("-1", 404), ("abc", 422), ("1.5", 422), (str(2**63), 422)],
)
def test_unknown_and_impossible_users_are_refused(api, user, status):
    answer = api.get(f"/features/{user}")

    assert answer.status_code == status
    assert answer.json()["error"]


def test_features_older_than_allowed_are_marked(world):
    world.deploy(1)
    with running_api(world, FTI_FEATURE__TTL_DAYS="1") as api:
        old = api.get("/features/7").json()
        fresh_rows = random_matrix(3)
        fresh_rows.times[:] = np.datetime64(now().replace(tzinfo=None), "us")
        world.online.write(fresh_rows, now())
        fresh = api.get("/features/2").json()

    assert (old["stale"], fresh["stale"]) == (True, False)

"""Who is let in, how many at once, and what an answer carries besides itself: real processes."""

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from configs.errors import SettingsError
from configs.settings import ROOT, load_settings
from models.connect import postgres
from monitoring.log.labels import said_labels
from serving.middleware.access import new_key, require_decided
from tests.worlds.serving import bearer, keys_setting, running_api

USER = {"user_id": 7}


@pytest.fixture(scope="module")
def shop():
    return new_key()


@pytest.fixture(scope="module")
def ops():
    return new_key()


@pytest.fixture(scope="module")
def guarded(shared_world, shop, ops):
    """An API that asks for keys and logs everything."""
    environment = {
        "FTI_DEPLOYMENT__API__KEYS": keys_setting(shop=("predict", shop[1]), ops=("admin", ops[1])),
        "FTI_DEPLOYMENT__API__ACCESS_LOG__REQUESTS": "all",
        "FTI_DEPLOYMENT__API__CORS_ORIGINS": '["https://app.example"]',
    }
    with running_api(shared_world, **environment) as api:
        yield api


def test_without_a_key_nothing_is_answered_but_the_probes(guarded):
    for method, path in [
        ("POST", "/predict"),
        ("GET", "/metrics"),
        ("GET", "/docs/../metrics"),
        ("HEAD", "/metrics"),
        ("GET", "/no-such-path"),
    ]:
        answer = guarded.request(method, path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="fti"'
        if method != "HEAD":
            assert "'Authorization: Bearer KEY' or 'X-API-Key: KEY'" in answer.json()["error"]
    assert guarded.get("/health").status_code == 200
    assert guarded.get("/ready").status_code == 200


@pytest.mark.parametrize("key", ["fti_wrong", "", "\xff\xfe", "a" * 5000])
def test_an_unknown_key_is_refused(guarded, key):
    answer = guarded.post("/predict", json=USER, headers={"X-API-Key": key.encode("latin1")})

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_key_is_taken_from_either_header(guarded, shop):
    assert guarded.post("/predict", json=USER, headers=bearer(shop)).status_code == 200
    by_name = guarded.post("/predict", json=USER, headers={"X-API-Key": shop[0]})
    assert by_name.status_code == 200


def test_a_role_that_does_not_suffice_is_told_which_one_does(guarded, shop, ops):
    answer = guarded.get("/metrics", headers=bearer(shop))

    assert answer.status_code == 403
    assert 'error="insufficient_scope", scope="operate"' in answer.headers["www-authenticate"]
    assert answer.json()["error"] == (
        "The key 'shop' may explain, feedback, predict; /metrics needs one that may operate."
    )
    assert guarded.get("/metrics", headers=bearer(ops)).status_code == 200
    assert guarded.post("/predict", json=USER, headers=bearer(ops)).status_code == 200


def test_an_answer_shows_what_its_caller_may_see(guarded, shop, ops):
    bodies = [{"user_id": 7, "age": 36}, {"age": 36, "sex": "Male"}]
    (of_user, of_attributes), all_of_user = (
        [guarded.post("/explain", json=body, headers=bearer(shop)).json() for body in bodies],
        guarded.post("/explain", json=bodies[0], headers=bearer(ops)).json(),
    )
    assert (of_user["values"], all_of_user["values"]) == ("withheld", "shown")
    told = {each["feature"]: each["value"] for each in of_user["contributions"] if "value" in each}
    assert told == {"age": 36}  # what the caller said itself
    # What is left open is derived from stored attributes: the rank from the level, and back.
    for left_open in ({"education_num": None}, {"education": " ?"}, {"education_num": "?"}):
        answer = guarded.post("/explain", json={"user_id": 7, **left_open}, headers=bearer(shop))
        assert not any("value" in each for each in answer.json()["contributions"])
    assert len(of_user["contributions"]) == len(all_of_user["contributions"]) == 47
    assert all("value" in each for each in all_of_user["contributions"])
    assert of_user["margin"] == all_of_user["margin"]
    assert of_attributes["values"] == "shown"

    [arm], [whole] = (
        guarded.get("/model", headers=bearer(key)).json()["arms"] for key in (shop, ops)
    )
    assert (arm["lineage"], arm["artifact_uri"]) == (None, None)
    assert arm["model_version"] == whole["model_version"]
    assert whole["lineage"]["training"]["family"]


def test_the_key_stands_in_receipts_and_labels(guarded, shop, ops):
    answer = guarded.post("/predict", json={"user_id": 9}, headers=bearer(shop)).json()
    [row] = guarded.post(
        "/predict/batch", json={"rows": [{"user_id": 9}]}, headers=bearer(ops)
    ).json()["predictions"]
    for prediction, name in ((answer, "shop"), (row, "ops")):
        path = f"/predictions/{prediction['prediction_id']}"
        receipt = guarded.get(path, headers=bearer(ops)).json()
        while receipt["stored_in"] != "postgresql":
            assert receipt["caller"] == name
            receipt = guarded.get(path, headers=bearer(ops)).json()
        assert receipt["caller"] == name
        assert guarded.get(path, headers=bearer(shop)).status_code == 403


def test_a_role_is_a_set_of_permissions_that_settings_may_define(shared_world):
    teacher, reader = new_key(), new_key()
    environment = {
        "FTI_DEPLOYMENT__API__KEYS": keys_setting(
            teacher=("teach", teacher[1]), reader=("read", reader[1])
        ),
        "FTI_DEPLOYMENT__API__ROLES": '{"teach": ["feedback"]}',
    }
    label = {"user_id": 7, "label_time": "2026-01-31T12:00:00Z", "label": 1}
    with running_api(shared_world, **environment) as api:
        statuses = [
            api.request(method, path, json=body, headers=bearer(key)).status_code
            for key in (teacher, reader)
            for method, path, body in [
                ("POST", "/feedback", label),
                ("POST", "/predict", USER),
                ("GET", "/features/7", None),
                ("GET", "/model", None),
                ("GET", "/metrics", None),
            ]
        ]
        assert statuses == [202, 403, 403, 200, 403, 403, 403, 200, 200, 403]
        with postgres(shared_world.settings)() as connection:
            said = []
            while not said:
                said = said_labels(connection, caller="teacher", most=5)
        assert [(each.user_id, each.label, each.counts) for each in said] == [(7, 1, True)]


def test_a_role_that_nobody_defined_is_refused_at_the_start():
    keys = json.dumps([{"name": "shop", "role": "predcit", "key_sha256": "0" * 64}])
    with pytest.raises(SettingsError, match="Did you mean 'predict'\\? Known: predict, feedback"):
        load_settings(deployment={"api": {"keys": json.loads(keys)}})


def test_a_path_of_which_nobody_said_what_it_needs_keeps_the_api_from_starting():
    require_decided(["/predict", "/features/{user_id}", "/health"], {"/health"})
    with pytest.raises(ValueError, match="say in NEEDED which permission /secrets needs"):
        require_decided(["/secrets"], ())


def test_no_secret_reaches_the_log(guarded, shop, ops, shared_world):
    guarded.post("/predict?key=in-the-query", json=USER, headers=bearer(shop))
    guarded.get("/metrics", headers=bearer(shop))
    guarded.post("/predict", json=USER, headers={"X-API-Key": "fti_somebody_elses"})
    log = guarded.log_path.read_text()

    settings = shared_world.settings
    passwords = [urlsplit(str(url)).password for url in (settings.database_url, settings.redis_url)]
    assert '"caller": "shop"' in log
    for secret in (*shop, *ops, "fti_somebody_elses", "in-the-query", *passwords):
        assert secret
        assert secret not in log


def test_another_origin_may_ask_only_when_it_is_configured(guarded, shop, api):
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    allowed = guarded.options("/predict", headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    refused = guarded.options("/predict", headers=preflight | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    answer = guarded.post(
        "/predict", json=USER, headers=bearer(shop) | {"Origin": "https://app.example"}
    )
    assert answer.headers["access-control-allow-origin"] == "https://app.example"

    closed = api.post("/predict", json=USER, headers={"Origin": "https://app.example"})
    assert not [name for name in closed.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [("order-42", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ('"}', False)],
)
def test_each_answer_carries_the_id_of_its_request(api, given, is_taken):
    answer = api.post("/predict", json=USER, headers={"X-Request-Id": given})

    assert (answer.headers["x-request-id"] == given) == is_taken
    assert answer.headers["x-request-id"]


def test_every_answer_is_safe_for_browsers(api):
    for answer in (
        api.post("/predict", json=USER),
        api.post("/predict", json={}),
        api.get("/no-such-path"),
        api.get("/health"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    policy = api.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "http" not in policy
    assert "unsafe" not in policy


def lines_of(api, request_id):
    return [each for each in api.log_lines() if each.get("request_id") == request_id]


def test_the_log_names_requests_by_their_id(guarded, shop):
    headers = bearer(shop) | {"X-Request-Id": "order-43"}
    guarded.post("/predict", json={"user_id": 999_999}, headers=headers)

    deadline = time.monotonic() + 5  # it is written when the answer has left
    while not (found := lines_of(guarded, "order-43")) and time.monotonic() < deadline:
        time.sleep(0.01)
    [line] = found
    assert (line["method"], line["path"], line["status"]) == ("POST", "/predict", 404)
    assert (line["caller"], line["level"], line["logger"]) == (
        "shop",
        "info",
        "serving.access_log",
    )
    assert 0 < line["duration_ms"] < 10_000


def test_by_default_only_failures_and_slow_requests_are_logged(api):
    api.post("/predict", json=USER, headers={"X-Request-Id": "well"})
    api.post("/predict", json={}, headers={"X-Request-Id": "refused"})

    assert [each for each in api.log_lines() if each.get("request_id") in {"well", "refused"}] == []


def test_who_asks_too_often_waits(shared_world):
    limits = {
        "FTI_DEPLOYMENT__API__RATE_LIMIT__PER_SECOND": "0.01",
        "FTI_DEPLOYMENT__API__RATE_LIMIT__BURST": "3",
    }
    with running_api(shared_world, **limits) as api:
        answers = [api.post("/predict", json=USER) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 100
        assert "asks more often than is allowed" in answers[-1].json()["error"]
        assert api.get("/health").status_code == 200  # probes are never limited


def open_request(api, sent: bytes) -> socket.socket:
    connection = socket.create_connection((api.base_url.host, api.base_url.port), timeout=10)
    connection.sendall(sent)
    return connection


HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 14\r\n\r\n"
)


def test_more_requests_than_can_be_answered_are_refused_at_once(shared_world):
    with running_api(shared_world, FTI_DEPLOYMENT__API__MAX_IN_FLIGHT="2") as api:
        begun = [open_request(api, HEAD) for _ in range(2)]  # their bodies are still to come
        api.until("/metrics", lambda answer: "fti_http_requests_in_flight 3.0" in answer.text)
        refused = api.post("/predict", json=USER)
        probes = [api.get(path).status_code for path in ("/health", "/ready", "/metrics")]
        for connection in begun:
            connection.sendall(b'{"user_id": 7}')
        answers = [connection.recv(65536) for connection in begun]
        again = api.post("/predict", json=USER)
        text = api.get("/metrics").text
        for connection in begun:
            connection.close()

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "2 requests are being answered already" in refused.json()["error"]
    assert probes == [200, 200, 200]
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert again.status_code == 200
    assert 'fti_http_requests_refused_total{reason="overload"} 1.0' in text


def test_under_overload_what_is_let_in_is_answered_and_the_rest_is_refused(shared_world):
    def ask(url: httpx.URL) -> list[int]:
        with httpx.Client(base_url=url, timeout=10) as client:
            return [client.post("/predict", json=USER).status_code for _ in range(40)]

    with running_api(shared_world, FTI_DEPLOYMENT__API__MAX_IN_FLIGHT="1") as api:
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(ask, api.base_url) for _ in range(12)]
        statuses = [status for each in asked for status in each.result()]
        assert api.post("/predict", json=USER).status_code == 200

    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 0


def test_a_body_that_trickles_in_does_not_hold_its_place_for_ever(shared_world):
    with running_api(shared_world, FTI_DEPLOYMENT__API__REQUEST_LIMIT_S="0.2") as api:
        with open_request(api, HEAD + b"{") as connection:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))  # and then it is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"was not there and answered within 0.2 s" in answer
        assert api.post("/predict", json=USER).status_code == 200


def test_a_new_key_is_shown_once_with_the_setting_for_its_hash(shared_world):
    made = subprocess.run(
        [sys.executable, "-m", "serving", "new-key", "--role", "admin", "--name", "ops"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = dict(line.split(": ", 1) for line in made.stdout.splitlines() if ": " in line)
    key = lines["key"].strip()
    setting = json.loads(lines["setting"])

    assert (setting["name"], setting["role"]) == ("ops", "admin")
    environment = {"FTI_DEPLOYMENT__API__KEYS": json.dumps([setting])}
    with running_api(shared_world, **environment) as api:
        assert api.get("/metrics").status_code == 401
        assert api.get("/metrics", headers={"X-API-Key": key}).status_code == 200


def test_a_key_written_where_its_hash_belongs_is_not_repeated(shared_world, shop):
    entry = {"name": "shop", "role": "predict", "key_sha256": shop[0], "key": shop[0]}
    ended = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=ROOT,
        env=shared_world.environment()
        | {"PATH": "", "FTI_DEPLOYMENT__API__KEYS": json.dumps([entry])},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert ended.returncode == 1
    assert "key_sha256" in ended.stderr
    assert shop[0] not in ended.stderr


def test_a_worker_that_ends_says_so_and_finishes_what_it_began(shared_world):
    with running_api(shared_world) as api:
        with open_request(api, HEAD) as begun:
            api.until("/metrics", lambda answer: "fti_http_requests_in_flight 2.0" in answer.text)
            api.process.terminate()
            time.sleep(0.5)
            begun.sendall(b'{"user_id": 7}')
            answer = begun.recv(65536)
        assert api.process.wait(10) == 0

    assert answer.startswith(b"HTTP/1.1 200 ")

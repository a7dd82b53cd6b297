"""What stands in front of the API: proxies, prefixes, probes, and paths that are nearly right."""

import pytest

from serving.middleware.access import new_key
from tests.worlds.serving import bearer, keys_setting, running_api
from tests.worlds.sockets import connect, request, until_closed

USER = {"user_id": 7}
HTTP = "FTI_DEPLOYMENT__API__HTTP__"
FORWARDED = "X-Forwarded-For"


@pytest.fixture(scope="module")
def shop():
    return new_key()


@pytest.fixture(scope="module")
def proxied(shared_world, shop):
    """An API behind a proxy, at a prefix, with keys."""
    environment = {
        f"{HTTP}ROOT_PATH": "/income",
        f"{HTTP}TRUSTED_PROXIES": '["127.0.0.1", "10.0.0.0/8"]',
        "FTI_DEPLOYMENT__API__KEYS": keys_setting(shop=("predict", shop[1])),
    }
    with running_api(shared_world, **environment) as api:
        yield api


def test_the_prefix_may_be_stripped_or_not(proxied, shop):
    for prefix in ("", "/income"):
        assert proxied.get(f"{prefix}/health").status_code == 200
        asked = proxied.post(f"{prefix}/predict", json=USER, headers=bearer(shop))
        assert asked.status_code == 200
    document = proxied.get("/income/openapi.json").json()
    assert document["servers"] == [{"url": "/income"}]


@pytest.mark.parametrize(
    "path", ["/metrics", "/income/metrics", "/income/income/metrics", "//metrics", "/%6detrics"]
)
def test_no_way_of_writing_a_path_gets_around_its_guard(proxied, shop, path):
    assert proxied.get(path).status_code == 401
    assert proxied.get(path, headers=bearer(shop)).status_code in {403, 404}


@pytest.fixture(scope="module")
def limited(shared_world):
    """An API that answers each caller twice, behind proxies."""
    environment = {
        f"{HTTP}TRUSTED_PROXIES": '["127.0.0.0/8", "10.0.0.0/8"]',
        "FTI_DEPLOYMENT__API__RATE_LIMIT__PER_SECOND": "0.001",
        "FTI_DEPLOYMENT__API__RATE_LIMIT__BURST": "2",
    }
    with running_api(shared_world, **environment) as api:
        yield api


def statuses(api, *chains):
    return [
        api.post("/predict", json=USER, headers={FORWARDED: chain}).status_code for chain in chains
    ]


def test_callers_behind_proxies_are_limited_each(limited):
    mine, yours = "1.2.3.4", "9.9.9.9, 5.6.7.8, 10.0.0.1"

    assert statuses(limited, mine, yours, mine, yours) == [200] * 4
    # Whatever a caller writes in front, the last address that no proxy has is the caller's.
    assert statuses(limited, mine, "6.6.6.6, 1.2.3.4", "7.7.7.7,5.6.7.8,10.9.9.9") == [429] * 3
    assert statuses(limited, "2001:db8::1") == [200]


def test_who_is_no_proxy_is_not_believed(shared_world):
    limits = {
        "FTI_DEPLOYMENT__API__RATE_LIMIT__PER_SECOND": "0.001",
        "FTI_DEPLOYMENT__API__RATE_LIMIT__BURST": "2",
    }
    with running_api(shared_world, **limits) as api:
        assert statuses(api, "1.1.1.1", "2.2.2.2", "3.3.3.3") == [200, 200, 429]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/model", "/docs"])
def test_head_is_answered_wherever_get_is_without_a_body(api, path):
    with connect(api) as connection:
        sent = request(path, headers=b"Connection: close\r\n", method="HEAD")
        connection.sendall(sent)
        head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: " in head
    assert body == b""


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("POST", "/predict/", "There is no path '/predict/'. Did you mean '/predict'?"),
        ("POST", "//predict", "There is no path '//predict'. Did you mean '/predict'?"),
        ("GET", "/helth", "There is no path '/helth'. Did you mean /health?"),
        ("GET", "/zzzzzz", "There is no path '/zzzzzz'. /docs lists"),
        ("GET", "/docs/no-such-file", "There is no path '/docs/no-such-file'."),
    ],
)
def test_a_wrong_path_leads_nowhere_and_names_the_one_that_was_meant(api, method, path, error):
    answer = api.request(method, f"{api.base_url}{path}", json=USER if method == "POST" else None)

    assert answer.status_code == 404
    assert answer.json()["error"].startswith(error)
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", "POST"), ("HEAD", "/predict", "POST"), ("PUT", "/health", "GET, HEAD")],
)
def test_a_wrong_method_is_told_the_right_one(api, method, path, allowed):
    answer = api.request(method, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert answer.json() == {"error": f"'{path}' is asked by {allowed}, not {method}."}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ROOT_PATH", "income/", "write it as /income"),
        ("TRUSTED_PROXIES", '["10.0.0.1/8"]', "write it as 10.0.0.0/8"),
        ("TRUSTED_PROXIES", '["*"]', "is no network"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_explained(shared_world, name, value, expected):
    with (
        pytest.raises(AssertionError, match=expected),
        running_api(shared_world, **{HTTP + name: value}),
    ):
        pass

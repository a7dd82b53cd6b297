"""The page of /docs: whole without any other host, open, and absent when it is turned off."""

import re

import pytest

from serving.middleware.access import new_key
from tests.worlds.serving import keys_setting, running_api


@pytest.fixture(scope="module")
def guarded(shared_world):
    keys = keys_setting(shop=("predict", new_key()[1]))
    with running_api(shared_world, FTI_DEPLOYMENT__API__KEYS=keys) as api:
        yield api


def test_the_page_and_all_that_it_loads_need_no_key_and_no_other_host(guarded):
    page = guarded.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)

    assert page.status_code == 200
    assert len(loaded) == 4
    for each in loaded:
        assert not each.startswith(("http", "//", "/"))
        asset = guarded.get(f"/{each}")
        assert asset.status_code == 200, each
        assert asset.content
    kinds = [guarded.get(f"/{each}").headers["content-type"].partition(";")[0] for each in loaded]
    assert sorted(kinds) == ["image/png", "text/css", "text/javascript", "text/javascript"]
    assert "<script>" not in page.text  # the policy of the page allows none


def test_the_document_says_how_a_key_is_sent(guarded, api):
    document = guarded.get("/openapi.json").json()

    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert document["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    without = api.get("/openapi.json").json()
    assert set(without["components"]["securitySchemes"]) == {"bearer", "header"}
    assert "security" not in without["paths"]["/predict"]["post"]


def test_the_page_is_absent_when_it_is_turned_off(shared_world):
    with running_api(shared_world, FTI_DEPLOYMENT__API__HTTP__DOCS="false") as api:
        found = [api.get(path).status_code for path in ("/docs", "/openapi.json", "/redoc")]
    assert found == [404, 404, 404]

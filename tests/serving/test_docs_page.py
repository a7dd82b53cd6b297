"""The page of the API's documents, as a browser shows it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from serving.middleware.access import new_key
from tests.worlds.serving import World, keys_setting, running_api

pytestmark = pytest.mark.full

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NOBODY_ELSE = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_works_without_a_network_and_where_keys_are_asked_for(
    shared_world: World, tmp_path: Path
) -> None:
    keys = keys_setting(ops=("admin", new_key()[1]))
    with running_api(shared_world, FTI_DEPLOYMENT__API__KEYS=keys) as api:
        assert api.get("/model").status_code == 401
        shown = subprocess.run(
            [
                *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={tmp_path}", f"--host-resolver-rules={NOBODY_ELSE}"),
                *("--virtual-time-budget=20000", "--dump-dom", f"{api.base_url}/docs"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
    assert "FTI predictions" in shown
    assert 'class="btn authorize' in shown
    for path in ("/predict", "/predict/batch", "/feedback", "/explain", "/predictions/"):
        assert f'data-path="{path}' in shown

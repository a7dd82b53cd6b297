"""Settings whose servers belong to one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings, load_settings
from infrastructure import embedded


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """Settings with nothing started yet; what the test starts is stopped and deleted."""
    settings = load_settings(var_dir=tmp_path / "var")
    yield settings
    embedded.delete(settings)

"""Programs inside installed packages, found without importing the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from infrastructure.errors import HomeError


def site_of(package: str) -> Path:
    """Give the folder that an installed package lies in.

    Raises
    ------
    HomeError
        If it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise HomeError(f"Package {package} is not installed. Run 'make install'.")
    return Path(spec.origin).parent.parent

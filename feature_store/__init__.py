"""Features: written once, computed by one engine, kept in PostgreSQL and Redis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feature_store.retrieval import get_online_features, get_training_data

__all__ = ["get_online_features", "get_training_data"]


def __getattr__(name: str) -> Any:
    """Give what is used directly; it is imported only then, since importing it takes a while."""
    if name in __all__:
        return getattr(import_module("feature_store.retrieval"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

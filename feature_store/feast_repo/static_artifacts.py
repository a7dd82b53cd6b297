"""What ``feast serve`` runs when it starts: planned requests take the short way."""

from feature_store.feast_plugin.server.serving import shorten as load_artifacts

__all__ = ["load_artifacts"]

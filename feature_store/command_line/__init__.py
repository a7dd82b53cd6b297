"""The commands of ``python -m feature_store``, which `feature_store.__main__` names."""

"""The commands of ``python -m models``, which `models.__main__` names."""

"""Gives a model the signature of its features: ``python sign.py MODEL NAME…``."""

import sys

from mlflow.models import ModelSignature, set_signature
from mlflow.types import ColSpec, Schema

path, *names = sys.argv[1:]
columns = Schema([ColSpec("double", name) for name in names])
set_signature(path, ModelSignature(inputs=columns))

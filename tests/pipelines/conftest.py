"""Worlds in which versions are trained, judged and moved, as the tests of the models have them."""

from tests.models.conftest import rows, trainer, training, world  # noqa: F401

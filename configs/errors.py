"""The root of every error that a user may see.

FTIError
├── SettingsError                   (configs)
├── infrastructure.ServiceError     (infrastructure)
├── feature_store.FeatureStoreError (feature_store)
├── models.ModelError               (models)
├── monitoring.MonitoringError      (monitoring)
├── serving.ServingError            (serving)
└── pipelines.batch.BatchError      (pipelines)

Each room draws its own branch at the top of its ``errors`` module. A command line shows an
``FTIError`` as one line and exits with 1; anything else is a defect.
"""

import difflib
from collections.abc import Iterable


class FTIError(Exception):
    """Something that a user can understand and mend; the message says how."""


def reason_of(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name that is most like a wrong one; None when none is like it.

    ``likeness`` is a ratio of `difflib.SequenceMatcher`.
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A hint at the nearest known name for the middle of a message, or nothing.

    Examples
    --------
    >>> did_you_mean("agee", ["age", "sex"]), did_you_mean("x", ["age", "sex"])
    ("Did you mean 'age'? ", '')
    """
    near = nearest(name, known, likeness)
    return f"Did you mean '{near}'? " if near else ""


class SettingsError(FTIError):
    """A setting has an unknown name or a value that cannot be used."""

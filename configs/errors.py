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


class FTIError(Exception):
    """Something that a user can understand and mend; the message says how."""


def reason_of(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


class SettingsError(FTIError):
    """A setting has an unknown name or a value that cannot be used."""

"""What can go wrong with models.

ModelError
├── UnknownModel           a family or a version that does not exist
├── TrainingRefused        data from which no sensible model can be trained or judged
├── ArtifactError          an artifact lacks a file, was altered, or belongs to another format
├── ExportRefused          the exported model does not answer as the trained one does
├── RegistryUnavailable    MLflow does not answer, or not in time
├── StudyUnavailable       the study of a tuning cannot be reached
├── DeploymentRefused      a version may not be deployed (so), or another one is under test
└── DeploymentConflict     somebody else deployed in the meantime
"""

from configs.errors import FTIError


class ModelError(FTIError):
    """Any error of this room."""


class UnknownModel(ModelError):
    """A family or a version that does not exist."""


class TrainingRefused(ModelError):
    """Data from which no sensible model can be trained or judged."""


class ArtifactError(ModelError):
    """An artifact lacks a file, was altered, or belongs to another format."""


class ExportRefused(ModelError):
    """The exported model does not answer as the trained one does."""


class RegistryUnavailable(ModelError):
    """MLflow does not answer, or not in time."""


class StudyUnavailable(ModelError):
    """The study of a tuning cannot be reached."""


class DeploymentRefused(ModelError):
    """A version may not be deployed, or another one is under test."""


class DeploymentConflict(ModelError):
    """Somebody else deployed in the meantime."""

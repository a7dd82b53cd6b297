"""What can go wrong with models.

FTIError
└── ModelError
    ├── DeploymentRefused     what was asked cannot be deployed, or not now
    └── DeploymentConflict    somebody else deployed in the meantime
"""

from configs.errors import FTIError


class ModelError(FTIError):
    """Any error of this room."""


class DeploymentRefused(ModelError):
    """What was asked cannot be deployed, or not now."""


class DeploymentConflict(ModelError):
    """Somebody else deployed in the meantime."""

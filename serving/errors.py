"""What can go wrong while answering.

FTIError
└── ServingError
    ├── NothingDeployed       no model has been deployed; the message names the command
    ├── UnknownEntity         the online store knows no such user
    ├── AttributesUnusable    the model takes features that cannot be computed any more
    ├── ModelUnusable         an artifact cannot be fetched, was altered, or answers otherwise
    ├── DeploymentUnusable    a deployment is damaged, or leaves some traffic to nobody
    └── PortUnavailable       the address cannot be listened on
"""

from configs.errors import FTIError


class ServingError(FTIError):
    """Any error of this room."""


class NothingDeployed(ServingError):
    """No model has been deployed."""


class UnknownEntity(ServingError):
    """The online store has no row for the entity."""


class AttributesUnusable(ServingError):
    """The model takes features that cannot be computed from attributes any more."""


class ModelUnusable(ServingError):
    """An artifact cannot be fetched, was altered, or answers its example otherwise."""


class DeploymentUnusable(ServingError):
    """A deployment is damaged, or leaves some traffic to nobody."""


class PortUnavailable(ServingError):
    """The address cannot be listened on."""

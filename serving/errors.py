"""What can go wrong while answering.

FTIError
└── ServingError
    ├── NothingDeployed       no model has been deployed; the message names the command
    ├── UnknownEntity         the online store knows no such user
    ├── UnknownPrediction     no prediction has this id
    ├── AttributesUnusable    the model takes features that cannot be computed any more
    ├── BodyTooLarge          a request's body is longer than allowed
    ├── BodyTypeRefused       a request's body has another type or compression
    ├── BodyUnreadable        a request's body is not what its head says
    ├── ModelUnusable         an artifact cannot be fetched, was altered, or answers otherwise
    ├── TookTooLong           what was asked is not done in time
    ├── DeploymentUnusable    a deployment is damaged, or its arms do not cover all traffic
    └── PortUnavailable       the address cannot be listened on
"""

from configs.errors import FTIError


class ServingError(FTIError):
    """Any error of this room."""


class NothingDeployed(ServingError):
    """No model has been deployed."""


class UnknownEntity(ServingError):
    """The online store has no row for the entity."""


class UnknownPrediction(ServingError):
    """No prediction has this id."""


class AttributesUnusable(ServingError):
    """The model takes features that cannot be computed from attributes any more."""


class BodyTooLarge(ServingError):
    """A request's body is longer than allowed."""


class BodyTypeRefused(ServingError):
    """A request's body has another type or compression than is taken."""


class BodyUnreadable(ServingError):
    """A request's body is not what its head says."""


class ModelUnusable(ServingError):
    """An artifact cannot be fetched, was altered, or answers its example otherwise."""


class TookTooLong(ServingError):
    """What was asked is not done in time."""


class DeploymentUnusable(ServingError):
    """A deployment is damaged, or its arms do not cover all traffic."""


class PortUnavailable(ServingError):
    """The address cannot be listened on."""

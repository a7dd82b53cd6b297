"""What can go wrong with servers and services.

FTIError
└── ServiceError
    ├── StartError       a program did not become ready; the message ends with its last log lines
    └── HomeError        a server's files are missing, unusable or belong to somebody else
"""

from configs.errors import FTIError


class ServiceError(FTIError):
    """A server or background service cannot do what was asked."""


class StartError(ServiceError):
    """A program was started but did not become ready."""


class HomeError(ServiceError):
    """The folder or the programs that a server needs cannot be used."""

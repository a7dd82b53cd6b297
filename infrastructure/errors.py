"""What can go wrong with servers and services.

FTIError
└── ServiceError
    ├── StartError       a program did not become ready; the message ends with its last log lines
    ├── HomeError        a server's files are missing, unusable or belong to somebody else
    ├── WorkRefused      no thread was free for it within the time that it may wait
    └── WorkOverdue      it was not done in time, or nobody waits for it any more
"""

from configs.errors import FTIError


class ServiceError(FTIError):
    """A server or background service cannot do what was asked."""


class StartError(ServiceError):
    """A program was started but did not become ready."""


class HomeError(ServiceError):
    """The folder or the programs that a server needs cannot be used."""


class WorkRefused(ServiceError):
    """No thread was free for a piece of work within the time that it may wait."""


class WorkOverdue(ServiceError):
    """A piece of work was not done in time, or nobody waits for it any more."""

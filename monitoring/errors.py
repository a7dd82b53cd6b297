"""What can go wrong while watching predictions.

FTIError
└── MonitoringError
    ├── LogUnavailable    a prediction cannot be recorded, so it may not be answered
    └── RecordCorrupt     bytes in the prediction log are not what was written
"""

from configs.errors import FTIError


class MonitoringError(FTIError):
    """Any error of this room."""


class LogUnavailable(MonitoringError):
    """A prediction cannot be recorded, so it may not be answered."""


class RecordCorrupt(MonitoringError):
    """Bytes in the prediction log are not what was written."""

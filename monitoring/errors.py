"""What can go wrong while watching predictions.

FTIError
└── MonitoringError
    ├── LogUnavailable         a prediction cannot be recorded, so it may not be answered
    ├── ReceiptsUnavailable    PostgreSQL does not answer, so a receipt may exist or not
    ├── RecordCorrupt          bytes in the prediction log are not what was written
    ├── SinkRefused            an alert was not taken by who should be told
    └── MonitoringRefused      what was asked of monitoring cannot be done
"""

from configs.errors import FTIError


class MonitoringError(FTIError):
    """Any error of this room."""


class LogUnavailable(MonitoringError):
    """A prediction cannot be recorded, so it may not be answered."""


class ReceiptsUnavailable(MonitoringError):
    """PostgreSQL does not answer, so a receipt may exist or not."""


class RecordCorrupt(MonitoringError):
    """Bytes in the prediction log are not what was written."""


class SinkRefused(MonitoringError):
    """An alert was not taken by who should be told."""


class MonitoringRefused(MonitoringError):
    """What was asked of monitoring cannot be done."""

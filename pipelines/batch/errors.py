"""What can go wrong in batch inference.

FTIError
└── BatchError
    ├── InputUnusable      the input lacks columns, repeats ids, is empty, or cannot be read
    ├── OutputUnusable     the output cannot be written, or is not what its manifest says
    ├── RunUnfinished      a chunk failed; what is done is kept for ``--resume``
    └── SparkUnavailable   no PySpark, no JVM, or no cluster
"""

from configs.errors import FTIError


class BatchError(FTIError):
    """Any error of batch inference."""


class InputUnusable(BatchError):
    """The input lacks columns, has wrong types, repeats ids, is empty, or cannot be read."""


class OutputUnusable(BatchError):
    """The output cannot be written, or is not what its manifest says."""


class RunUnfinished(BatchError):
    """A chunk failed; what is done is kept for ``--resume``."""


class SparkUnavailable(BatchError):
    """There is no PySpark, no JVM of a version that it runs on, or no cluster."""

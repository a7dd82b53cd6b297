"""What an earlier run left unfinished."""

from __future__ import annotations

import os

from configs.command_line import note
from pipelines.batch.folders import Folder
from pipelines.batch.output import Output
from pipelines.batch.plan import Plan
from pipelines.batch.preparation import Asked, refuse_other_work


def started(place: str, asked: Asked) -> Plan | None:
    """The plan of the newest unfinished run below a folder; None when there is nothing to resume.

    A run that ended just after its output had become visible is tidied up.

    Raises
    ------
    InputUnusable
        If it was of other work, or its input has changed.
    """
    root = Folder.of(place, os.environ)
    for partition in sorted(Output.unfinished(root), reverse=True):
        if asked.as_of is not None and partition != f"date={asked.as_of:%Y-%m-%d}":
            continue
        output = Output(root, partition)
        plan = output.plan()
        if plan is None or output.is_published(plan):
            output.tidy()
            continue
        refuse_other_work(plan, asked)
        return plan
    note("there is nothing to resume: the run begins anew")
    return None

"""Run by Airflow's own Python: what the DAGs of a folder are, as one line of JSON."""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

sys.path.insert(0, sys.argv[1])  # as the DAG processor does
bag = DagBag(sys.argv[1])
dags = {}
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)  # what the scheduler does with it
    tasks = {}
    for task in dag.tasks:
        tasks[task.task_id] = {
            "command": task.bash_command,
            "cwd": task.cwd,
            "pool": task.pool,
            "retries": task.retries,
            "backs_off": task.retry_exponential_backoff,
            "limit_s": task.execution_timeout.total_seconds(),
            "xcom": task.do_xcom_push,
            "alerts": bool(task.on_failure_callback),
            "outlets": sorted(asset.uri for asset in task.outlets),
            "after": sorted(task.upstream_task_ids),
        }
    dags[dag.dag_id] = {
        "schedule": type(dag.timetable).__name__,
        "summary": str(
            getattr(dag.timetable, "_summary", "") or getattr(dag.timetable, "summary", "")
        ),
        "catchup": dag.catchup,
        "runs_at_once": dag.max_active_runs,
        "tasks": tasks,
    }
print(json.dumps({"errors": bag.import_errors, "dags": dags}))

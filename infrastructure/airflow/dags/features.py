"""Features, every hour: what is new in the source, into both stores."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from fti_tasks import FEATURES, NOT_NOW, ONE_AT_A_TIME, WEEK_OF_FEATURES, command

# A backfill computes its interval anew; an hourly run takes what is new, whatever its time.
SPAN = (
    "{% if dag_run.run_type == 'backfill' %}"
    "--start {{ dag_run.data_interval_start.isoformat() }} "
    "--end {{ dag_run.data_interval_end.isoformat() }}"
    "{% endif %}"
)
# Weeks begin on Monday, in UTC. The first run after one has begun tells, however late it is.
WEEK = (
    "test '{{ dag_run.data_interval_end.strftime('%G-%V') }}' != "
    "'{{ prev_data_interval_end_success.strftime('%G-%V') "
    "if prev_data_interval_end_success else 'none' }}'"
)

with DAG(
    "features",
    description="New rows of the source into both stores",
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    doc_md=__doc__,
    **ONE_AT_A_TIME,
) as dag:
    compute = command(
        "compute",
        f"pipelines/run.py features {SPAN}",
        pool="features",
        limit=timedelta(minutes=50),
        outlets=[FEATURES],
    )
    week = BashOperator(
        task_id="week",
        bash_command=f"{WEEK} || exit {NOT_NOW}",
        skip_on_exit_code=NOT_NOW,
        do_xcom_push=False,
        execution_timeout=timedelta(minutes=1),
        outlets=[WEEK_OF_FEATURES],
    )
    compute >> week

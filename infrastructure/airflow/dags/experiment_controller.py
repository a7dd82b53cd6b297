"""The controller of A/B tests, every ten minutes: it promotes, rolls back or widens by evidence."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from fti_tasks import ONE_AT_A_TIME, command

with DAG(
    "experiment_controller",
    description="Decides the running A/B test, if there is one",
    schedule=CronDataIntervalTimetable("*/10 * * * *", timezone="UTC"),
    doc_md=__doc__,
    **ONE_AT_A_TIME,
) as dag:
    command("decide", "pipelines/run.py experiment", pool="deployments", limit=timedelta(minutes=9))

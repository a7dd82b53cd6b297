"""Monitoring, every quarter of an hour: drift, performance, skew, quality; alerts and requests."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from fti_tasks import NOT_NOW, ONE_AT_A_TIME, RETRAIN_REQUEST, command

with DAG(
    "monitoring",
    description="Checks what serves, tells people, and asks for a new model",
    schedule=CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    doc_md=__doc__,
    **ONE_AT_A_TIME,
) as dag:
    check = command(
        "check", "pipelines/run.py monitoring", pool="monitoring", limit=timedelta(minutes=14)
    )
    request = command(
        "request",
        f"pipelines/run.py requested --else-exit {NOT_NOW}",
        pool="monitoring",
        limit=timedelta(minutes=2),
        outlets=[RETRAIN_REQUEST],
    )
    check >> request

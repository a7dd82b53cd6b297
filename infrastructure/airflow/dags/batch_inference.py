"""Batch inference, every day and after every new model: a prediction for everybody.

A run scores with the features of events before the end of its interval and replaces that day's
folder, so the same run twice leaves the same files.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.interval import CronDataIntervalTimetable
from fti_tasks import FEATURES, MODEL, ONE_AT_A_TIME, PREDICTIONS, command

# A run that an asset has triggered has no interval: then its own time counts.
AS_OF = "{{ (dag_run.data_interval_end or dag_run.run_after).isoformat() }}"

with DAG(
    "batch_inference",
    description="A prediction for everybody, as a folder of Parquet files a day",
    schedule=AssetOrTimeSchedule(
        timetable=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"), assets=MODEL
    ),
    doc_md=__doc__,
    **ONE_AT_A_TIME,
) as dag:
    command(
        "score",
        f"pipelines/run.py batch --as-of {AS_OF}",
        pool="predictions",
        limit=timedelta(hours=3),
        inlets=[FEATURES, MODEL],
        outlets=[PREDICTIONS],
    )

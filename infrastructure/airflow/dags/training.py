"""Training, when a week of features is there or monitoring asks for it.

The model is judged and, if the gates let it pass, deployed beside the champion. An open request of
monitoring is carried out first: its range of rows was fixed when it was written.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from fti_tasks import MODEL, ONE_AT_A_TIME, RETRAIN_REQUEST, WEEK_OF_FEATURES, command

with DAG(
    "training",
    description="A new model, judged, and entered as challenger",
    schedule=(WEEK_OF_FEATURES | RETRAIN_REQUEST),
    doc_md=__doc__,
    **ONE_AT_A_TIME,
) as dag:
    command(
        "train",
        "pipelines/run.py training",
        pool="deployments",
        limit=timedelta(hours=3),
        outlets=[MODEL],
    )

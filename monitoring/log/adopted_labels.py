"""Labels of predictions become labels of users, from which models are trained.

A label about a prediction tells what was true of its user at its time. Predictions from attributes
of a request are left out: their label does not belong to what is stored about the user.
"""

from __future__ import annotations

from typing import Any

import psycopg

from feature_store.offline.postgres import exists, lock_table
from monitoring.log.label_table import create_labels
from monitoring.log.reader import REQUEST_ATTRIBUTES

_ADOPT = f"""
INSERT INTO labels (user_id, label, label_time, received_at, created_timestamp)
SELECT found.user_id, found.label, found.predicted_at, found.received_at, clock_timestamp()
FROM (
    SELECT DISTINCT ON (p.user_id, p.predicted_at) p.user_id, p.predicted_at, l.label, l.received_at
    FROM labels l JOIN predictions p USING (prediction_id)
    WHERE p.user_id IS NOT NULL AND NOT {REQUEST_ATTRIBUTES}
    ORDER BY p.user_id, p.predicted_at, l.created_timestamp DESC
) AS found
LEFT JOIN LATERAL (
    SELECT label FROM labels WHERE labels.prediction_id IS NULL
        AND labels.user_id = found.user_id AND labels.label_time = found.predicted_at
    ORDER BY created_timestamp DESC LIMIT 1
) AS known ON true
WHERE known.label IS DISTINCT FROM found.label
"""


def adopt_labels(connection: psycopg.Connection[Any]) -> int:
    """Add labels of users that follow from labels of predictions; give how many were new.

    Doing it again adds nothing; a correction of a prediction's label corrects the user's.
    """
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")  # it looks at the whole log
        if not exists(connection, "predictions"):
            return 0
        create_labels(connection)
        lock_table(connection, "labels")
        return connection.execute(_ADOPT).rowcount

"""``POST /feedback``: labels, kept in the prediction log before they are acknowledged."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
from collections.abc import Callable
from datetime import datetime

from fastapi import FastAPI, Response
from pydantic import BaseModel

from monitoring.log.labels import KIND_LABEL
from monitoring.log.writer import SharedLog
from serving.answers import json_response
from serving.routes.bulk_route import add_bulk_path, refused
from serving.routes.feedback import feedback_schema, to_records, too_early
from serving.routes.route_documents import EXAMPLE_ID, answers

ACCEPTED = 202
AT_ONCE = 8
"""Reports that are taken in at the same time."""


class Accepted(BaseModel):
    """How many labels are kept."""

    accepted: int


def add_feedback(
    app: FastAPI,
    log: SharedLog,
    entity: str,
    texts: tuple[str, str],
    clock: Callable[[], datetime],
) -> None:
    """Add the path.

    Parameters
    ----------
    log
        Takes the labels, from any thread.
    entity
        What the key of a user is called.
    texts
        What predictions say for class 0 and class 1.
    clock
        Gives the present time in UTC.
    """
    body_schema = feedback_schema(entity, texts)

    def give_feedback(body: body_schema) -> Response:  # type: ignore[valid-type]
        """Report labels, of predictions or of users at a time: one, or up to 10,000.

        They survive this process when they are acknowledged, and reach the table `labels` within
        a second. The same label again changes nothing; another one for the same is a correction,
        which counts from then on. Labels may be late by any time. When one of them cannot be
        used, none is kept.
        """
        now = clock()
        labels = body.labels  # type: ignore[attr-defined]
        problems = too_early(labels, now)
        if problems:
            return refused(problems, [])
        records = to_records(labels, entity, now)
        log.append([record.pack() for record in records], KIND_LABEL)
        return json_response({"accepted": len(records)}, ACCEPTED)

    add_bulk_path(
        app,
        "/feedback",
        give_feedback,
        AT_ONCE,
        response_model=Accepted,
        status_code=ACCEPTED,
        responses=answers(
            {"accepted": 2},
            status=ACCEPTED,
            _413="",
            _422=f"labels.0.label is 2: expected 0, 1, '{texts[0]}' or '{texts[1]}'",
            _503="The prediction log cannot be written: No space left on device.",
        ),
        openapi_extra=_examples(entity, texts),
    )


def _examples(entity: str, texts: tuple[str, str]) -> dict[str, object]:
    of_prediction = {"prediction_id": EXAMPLE_ID, "label": 1}
    of_user = {entity: 12345, "label_time": "2026-01-31T12:00:00Z", "label": texts[0]}
    examples = {
        "one": {"summary": "of a prediction", "value": of_prediction},
        "many": {
            "summary": "several at once",
            "value": {"labels": [of_prediction, of_user]},
        },
    }
    return {"requestBody": {"content": {"application/json": {"examples": examples}}}}

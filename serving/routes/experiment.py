"""``GET /experiment``: the A/B test that runs, and what was decided about tests."""

# Annotations are values here: FastAPI reads them.
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel

from models.deployment.record import Deployment
from monitoring.experiments.store import decision_of_row
from monitoring.log.postgres_reader import PostgresReader
from serving.answers import json_response
from serving.deployment.live import DeploymentFollower
from serving.routes.route_documents import answers

NEWEST = (
    "SELECT * FROM experiment_decisions WHERE model_name = %(model_name)s "
    "ORDER BY decision_id DESC LIMIT %(limit)s"
)
Limit = Annotated[int, Query(ge=1, le=1000, description="So many of the newest decisions.")]


class TestedArm(BaseModel):
    """One arm of the test."""

    arm: str
    model_version: str
    share: float


class RunningTest(BaseModel):
    """The test that runs, as this process serves it."""

    name: str
    mode: str
    generation: int
    arms: list[TestedArm]
    overrides: dict[str, str]
    plan: dict[str, Any] | None


class DecisionAnswer(BaseModel):
    """One decision, with all that it stands on."""

    decision_id: int
    experiment: str
    champion: str
    challenger: str
    generation: int
    action: str
    reason: str
    decided_by: str
    decided_at: datetime
    plan: dict[str, Any]
    evidence: dict[str, Any]


class ExperimentAnswer(BaseModel):
    """The running test, if any, and decisions about this and earlier ones, the newest first."""

    running: RunningTest | None
    decisions: list[DecisionAnswer]


EXAMPLE = {
    "running": {
        "name": "income-xgb-v4-vs-income-xgb-v3-g8",
        "mode": "paired",
        "generation": 8,
        "arms": [
            {"arm": "champion", "model_version": "income-xgb-v3", "share": 0.9},
            {"arm": "challenger", "model_version": "income-xgb-v4", "share": 0.1},
        ],
        "overrides": {"12345": "challenger"},
        "plan": {"metric": "brier", "alpha": 0.05},
    },
    "decisions": [
        {
            "decision_id": 17,
            "experiment": "income-xgb-v4-vs-income-xgb-v3-g8",
            "champion": "income-xgb-v3",
            "challenger": "income-xgb-v4",
            "generation": 8,
            "action": "continue",
            "reason": "undecided: brier -0.00112 [-0.00431, +0.00207] on 812 units",
            "decided_by": "controller (ops)",
            "decided_at": "2026-01-31T12:00:00Z",
            "plan": {"metric": "brier", "alpha": 0.05},
            "evidence": {"units": 901, "counted": 812},
        }
    ],
}


def add_experiment(
    app: FastAPI, follower: DeploymentFollower, records: PostgresReader, model_name: str
) -> None:
    """Add the path.

    Parameters
    ----------
    records
        Reads the decisions.
    model_name
        The registered model.
    """

    @app.get(
        "/experiment",
        response_model=ExperimentAnswer,
        responses=answers(
            EXAMPLE,
            _422="query.limit is '0': Input should be greater than or equal to 1",
            _503="PostgreSQL does not answer: …",
        ),
    )
    async def show_experiment(limit: Limit = 20) -> Response:
        """Show the A/B test that runs, and the newest decisions with their evidence.

        `evidence.primary` is the difference of losses with its confidence sequence; `path` has
        `[n, mean, lower, upper]` along the way.
        """
        rows = await records.rows(NEWEST, {"model_name": model_name, "limit": limit})
        live = follower.live
        running = _running(live.deployment) if live is not None else None
        decisions = [vars(decision_of_row(row)) for row in rows]
        return json_response({"running": running, "decisions": decisions})


def _running(deployment: Deployment) -> dict[str, Any] | None:
    if deployment.challenger is None:
        return None
    arms = [
        {"arm": arm.name, "model_version": arm.label, "share": arm.share} for arm in deployment.arms
    ]
    return {
        "name": deployment.experiment,
        "mode": deployment.mode,
        "generation": deployment.generation,
        "arms": arms,
        "overrides": dict(deployment.overrides),
        "plan": deployment.plan.to_dict() if deployment.plan else None,
    }

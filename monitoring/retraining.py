"""`trigger_training_pipeline` asks for a retraining."""

from __future__ import annotations

from configs.settings import load_settings
from models.connect import now
from monitoring import connect
from monitoring.retraining_requests import RetrainingRequest, Withheld


def trigger_training_pipeline(
    reason: str = "asked for by a person",
) -> RetrainingRequest | Withheld:
    """Ask for a retraining; ``python pipelines/run.py retrain`` acts on it.

    Returns
    -------
    The request, or why there is none: another one is open.
    """
    settings = load_settings()
    serving = connect.serving_models(settings)
    champion = serving.champion if serving else None
    config = settings.monitoring.retraining
    return connect.retraining_store(settings).request(config, reason, (), champion, now())

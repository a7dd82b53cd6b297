"""``judge``: hold a version against the gates now."""

from __future__ import annotations

from dataclasses import asdict

from configs.settings import Settings
from feature_store.command_line.output import Answer
from models import connect
from models.command_line.versions import decision_table


def judge_version(label: str, settings: Settings) -> tuple[Answer, bool]:
    """Judge a version against what serves, and keep that; whether it passed comes second."""
    version = connect.model_registry(settings).find(label)
    champion = connect.champion_of(settings)
    decision = connect.admission(settings).judge_and_record(version, champion)
    title = f"{label}: {'passed' if decision.passed else 'failed'}; {decision.summary}"
    results = [asdict(result) for result in decision.results]
    return Answer(decision.to_dict(), [decision_table(title, results)]), decision.passed

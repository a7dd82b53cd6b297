"""The clauses on how far pipeline and stream are behind."""

from __future__ import annotations

import pytest

from configs.monitoring_config import QualityConfig
from monitoring.checks.data_quality import Lags, check_contracts

CONTRACT = QualityConfig(max_pipeline_lag_hours=26, max_stream_delay_ms=1_000)


def held(ages: dict[str, float], lags: Lags) -> dict[tuple[str, str], bool]:
    clauses = check_contracts(CONTRACT, None, None, ages, lags).clauses
    return {(clause.name, clause.subject): clause.holds for clause in clauses}


@pytest.mark.parametrize(("hours", "holds"), [(25.9, True), (26.0, True), (26.1, False)])
def test_a_pipeline_that_has_not_read_for_too_long_breaks_its_contract(hours, holds):
    assert held({"pipeline_lag": hours}, Lags())[("pipeline_lag", "watermarks")] is holds


def test_a_pipeline_that_never_read_breaks_its_contract():
    assert held({}, Lags())[("pipeline_lag", "watermarks")] is False


@pytest.mark.parametrize(("delay_ms", "holds"), [(999.0, True), (1_001.0, False)])
def test_events_that_become_readable_too_late_break_their_contract(delay_ms, holds):
    found = held({"pipeline_lag": 1.0}, Lags(stream_delay_ms=delay_ms))
    assert found[("stream_delay_ms", "events")] is holds


def test_a_stream_that_does_not_run_is_not_checked():
    assert ("stream_delay_ms", "events") not in held({"pipeline_lag": 1.0}, Lags())

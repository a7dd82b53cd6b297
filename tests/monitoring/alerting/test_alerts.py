"""Alerts fire once, last as long as their cause, and reach every sink exactly once."""

import logging
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from configs.errors import SettingsError
from configs.monitoring_config import AlertsConfig, RuleConfig
from configs.settings import load_settings
from models.connect import postgres
from monitoring.alerting.rules import Alerts
from monitoring.alerting.sinks import LogSink, build_sink
from monitoring.alerting.states import Sample, advance
from monitoring.alerting.store import AlertStore
from monitoring.errors import SinkRefused
from tests.monitoring.alerting.alert_receivers import Alertmanager, Mailbox, Webhook

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rule(**changes) -> RuleConfig:
    usual = {
        "name": "low_accuracy",
        "metric": "accuracy",
        "comparator": "<",
        "threshold": 0.8,
        "severity": "critical",
        "owner": "a team",
        "runbook": "docs/monitoring.md#low_accuracy",
        "summary": "Accuracy is low",
    }
    return RuleConfig(**(usual | changes))


def states(of: RuleConfig, values: list[float | None], step=MINUTE) -> list[str]:
    """Look at a rule again and again; give each state, with * where somebody is told."""
    alert, found = None, []
    for place, value in enumerate(values):
        now = NOW + place * step
        moved = None if value is None else advance(of, alert, Sample("accuracy", value), value, now)
        alert = moved.alert if moved else alert
        found.append((alert.state if alert else "-") + ("*" if moved and moved.tell else ""))
    return found


def test_an_alert_fires_at_once_and_is_told_once():
    assert states(rule(), [0.9, 0.7, 0.7, 0.7]) == ["-", "firing*", "firing", "firing"]


def test_an_alert_is_pending_for_as_long_as_its_rule_says():
    found = states(rule(for_minutes=2), [0.7, 0.7, 0.7, 0.7])
    assert found == ["pending", "pending", "firing*", "firing"]


def test_what_does_not_last_never_fires():
    found = states(rule(for_minutes=2), [0.7, 0.9, 0.7, 0.7, 0.9])
    assert found == ["pending", "inactive", "pending", "pending", "inactive"]


def test_the_end_of_an_alert_is_told():
    assert states(rule(), [0.7, 0.9, 0.9]) == ["firing*", "resolved*", "resolved"]


def test_what_fires_again_within_the_cooldown_is_told_when_it_is_over():
    found = states(rule(cooldown_minutes=4), [0.7, 0.9, 0.7, 0.7, 0.7, 0.7])
    assert found == ["firing*", "resolved*", "firing", "firing", "firing*", "firing"]


def test_flapping_within_the_cooldown_is_told_once():
    found = states(rule(cooldown_minutes=60), [0.7, 0.9] * 8)
    assert "".join(found).count("*") == 2


def test_an_alert_does_not_end_because_nobody_looked():
    assert states(rule(), [0.7, None, None]) == ["firing*", "firing", "firing"]


@pytest.fixture
def store(own_settings):
    return AlertStore(postgres(own_settings))


def no_history(metric, labels, since):
    return []


def test_each_set_of_labels_has_an_alert_of_its_own(store):
    alerts = Alerts(AlertsConfig(rules=[rule()]), store, [])
    samples = [Sample("accuracy", 0.7, {"arm": arm}) for arm in ("champion", "challenger")]
    alerts.evaluate([*samples, Sample("f1_score", 0.1)], NOW, no_history)
    assert [alert.key for alert in alerts.firing()] == [
        "low_accuracy{arm=challenger}",
        "low_accuracy{arm=champion}",
    ]


def test_a_rule_about_an_arm_passes_the_others_over(store):
    alerts = Alerts(AlertsConfig(rules=[rule(labels={"arm": "champion"})]), store, [])
    alerts.evaluate([Sample("accuracy", 0.1, {"arm": "challenger"})], NOW, no_history)
    assert alerts.firing() == []


@pytest.mark.parametrize(("aggregate", "fires"), [("mean", False), ("min", True), ("max", False)])
def test_a_window_is_looked_at_as_a_whole(store, aggregate, fires):
    asked = []

    def history(metric, labels, since):
        asked.append((metric, labels, since))
        return [0.9, 0.9, 0.7]

    window = rule(window_minutes=30, aggregate=aggregate)
    alerts = Alerts(AlertsConfig(rules=[window]), store, [])
    alerts.evaluate([Sample("accuracy", 0.7)], NOW, history)
    assert bool(alerts.firing()) == fires
    assert asked == [("accuracy", {}, NOW - 30 * MINUTE)]


@pytest.fixture(params=[Webhook, Alertmanager, Mailbox])
def receiver(request):
    receiver = request.param()
    yield receiver
    receiver.close()


def test_a_sink_gets_what_fires_and_what_ends_once(store, receiver):
    alerts = Alerts(AlertsConfig(rules=[rule()]), store, [receiver.sink()])
    for place, value in enumerate([0.7, 0.7, 0.9, 0.9]):
        now = NOW + place * MINUTE
        alerts.evaluate([Sample("accuracy", value)], now, no_history)
        assert alerts.deliver(now) == {}
    assert len(receiver.messages()) == 2
    assert all("Accuracy is low" in message for message in receiver.messages())
    assert len(set(receiver.ids())) == 2


def test_a_sink_that_is_down_is_tried_again_and_gets_everything_once_in_order(store, receiver):
    config = AlertsConfig(retry_s=10, max_retry_s=40)
    alerts = Alerts(config, store, [receiver.sink()])
    receiver.fail()
    for number in range(3):
        alerts.send(f"message {number}", "warning", NOW)
    assert receiver.messages() == []
    assert store.waiting() == {alerts.sinks[0].name: 3}
    receiver.recover()
    assert alerts.deliver(NOW + timedelta(seconds=5)) == {}  # not yet: it waits
    assert receiver.messages() == []
    alerts.deliver(NOW + timedelta(seconds=11))
    alerts.deliver(NOW + timedelta(hours=1))
    numbers = [message[-1] for message in receiver.messages()]
    assert numbers == ["0", "1", "2"]
    assert len(set(receiver.ids())) == 3
    assert store.waiting() == {}


def test_an_alertmanager_that_was_started_anew_is_reminded_of_what_fires(store):
    receiver = Alertmanager()
    alerts = Alerts(AlertsConfig(rules=[rule()]), store, [receiver.sink()])
    alerts.evaluate([Sample("accuracy", 0.7)], NOW, no_history)
    alerts.deliver(NOW)
    receiver.bodies.clear()  # it forgets everything
    alerts.remind(NOW + MINUTE)
    assert len(receiver.messages()) == 1
    alerts.evaluate([Sample("accuracy", 0.9)], NOW + 2 * MINUTE, no_history)
    alerts.deliver(NOW + 2 * MINUTE)
    alerts.remind(NOW + 3 * MINUTE)
    [_, [ended]] = receiver.bodies
    assert ended["endsAt"] == (NOW + 2 * MINUTE).isoformat()
    receiver.fail()
    alerts.remind(NOW)  # one that is away is no error
    receiver.close()


def test_one_sink_that_is_down_does_not_keep_the_others_from_theirs(store):
    broken, well = Webhook(), Alertmanager()
    broken.fail()
    alerts = Alerts(AlertsConfig(), store, [broken.sink(), well.sink()])
    alerts.send("something", "critical", NOW)
    assert (broken.messages(), well.messages()) == ([], ["something"])
    assert "503" in alerts.deliver(NOW + timedelta(hours=1))["webhook"]
    broken.close()
    well.close()


def test_two_processes_that_deliver_at_once_send_everything_once(store):
    receiver = Webhook()
    alerts = Alerts(AlertsConfig(), store, [])
    sink = receiver.sink()
    with store.transaction() as connection:
        step = advance(rule(), None, Sample("accuracy", 0.1), 0.1, NOW)
        for _ in range(20):
            store.tell(connection, step.alert, [sink.name], NOW)
    alerts.sinks = [sink]
    threads = [threading.Thread(target=alerts.deliver, args=(NOW,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.messages()) == len(set(receiver.ids())) == 20
    receiver.close()


def test_a_severe_sink_is_spared_what_is_not(store):
    receiver = Webhook()
    sink = type(receiver.sink())(receiver.sink().url, min_severity="critical")
    alerts = Alerts(AlertsConfig(), store, [sink])
    alerts.send("a trifle", "warning", NOW)
    alerts.send("a catastrophe", "critical", NOW)
    assert [message.split(": ")[-1] for message in receiver.messages()] == ["a catastrophe"]
    receiver.close()


def test_the_log_is_a_sink_too(store, caplog):
    alerts = Alerts(AlertsConfig(), store, [LogSink()])
    with caplog.at_level(logging.INFO):
        alerts.send("look here", "critical", NOW)
    [line] = [record for record in caplog.records if record.name == "fti.alerts"]
    assert (line.levelname, "look here" in line.getMessage()) == ("CRITICAL", True)


def test_the_same_message_is_not_sent_twice_within_the_cooldown(store):
    alerts = Alerts(AlertsConfig(), store, [])
    assert alerts.send("again", "info", NOW)
    assert not alerts.send("again", "info", NOW + 10 * MINUTE)
    assert alerts.send("something else", "info", NOW + 10 * MINUTE)
    assert alerts.send("again", "info", NOW + 61 * MINUTE)


def test_states_survive_in_postgresql(store, own_settings):
    alerts = Alerts(AlertsConfig(rules=[rule()]), store, [])
    alerts.evaluate([Sample("accuracy", 0.7, detail="over 300 labels")], NOW, no_history)
    with psycopg.connect(own_settings.database_url) as connection:
        query = "SELECT key, state, severity, owner, runbook, value, detail FROM alerts"
        assert connection.execute(query).fetchall() == [
            (
                *("low_accuracy", "firing", "critical", "a team"),
                *("docs/monitoring.md#low_accuracy", 0.7, "over 300 labels"),
            )
        ]


def test_a_secret_that_is_not_set_is_named():
    config = load_settings(
        monitoring={"alerts": {"sinks": [{"type": "webhook", "url_env": "MY_HOOK"}]}}
    ).monitoring.alerts
    with pytest.raises(SinkRefused, match="MY_HOOK is not set"):
        build_sink(config.sinks[0], 5, {})
    sink = build_sink(config.sinks[0], 5, {"MY_HOOK": "https://example.org/secret"})
    assert "secret" not in repr(sink)


def test_two_rules_of_one_name_are_refused():
    rules = [rule().model_dump(), rule().model_dump()]
    with pytest.raises(SettingsError, match="low_accuracy is there twice"):
        load_settings(monitoring={"alerts": {"rules": rules}})


def test_every_rule_that_is_shipped_has_its_runbook():
    from configs.settings import ROOT

    page = (ROOT / "docs" / "monitoring.md").read_text()
    for shipped in load_settings().monitoring.alerts.rules:
        where, _, anchor = shipped.runbook.partition("#")
        assert where == "docs/monitoring.md"
        assert f"### {anchor}\n" in page

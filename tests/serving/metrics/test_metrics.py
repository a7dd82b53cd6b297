"""Numbers of several workers, which any of them tells."""

import re

from serving.metrics.metric_files import MetricFiles
from serving.metrics.metrics import Metrics
from serving.prediction.in_flight import Answer
from tests.worlds.serving import Api, running_api

ANSWERED = r'fti_http_requests_total\{path="/predict",status="200"\} (\S+)'


def predicted(api: Api) -> int:
    found = re.search(ANSWERED, api.get("/metrics").text)
    return int(float(found.group(1))) if found else 0


def until_predicted(api: Api, n: int) -> None:
    api.until("/metrics", lambda answer: f'path="/predict",status="200"}} {n}.0' in answer.text)


def test_whichever_worker_is_asked_tells_the_numbers_of_all(world):
    world.deploy(1)
    with running_api(world) as first, running_api(world) as second:
        for api, n in ((first, 3), (second, 4)):
            for user in range(1, n + 1):
                assert api.post("/predict", json={"user_id": user}).status_code == 200
        until_predicted(first, 7)
        until_predicted(second, 7)

        first.process.kill()
        first.process.wait()
        assert predicted(second) == 7  # counts never fall
        with running_api(world) as third:
            third.post("/predict", json={"user_id": 1})
            until_predicted(second, 8)
            assert predicted(third) == 8
        assert predicted(second) == 8
    with running_api(world) as alone:
        assert predicted(alone) == 0  # nobody was left


def answer(**changes) -> Answer:
    values = {
        "prediction": ">50K",
        "probability": 0.7,
        "model_version": "xgb-v1",
        "latency_ms": 3.0,
        "prediction_id": "",
        "arm": "champion",
        "missing": [],
        "unseen": [],
        "degraded": False,
        "degraded_reasons": [],
    }
    return Answer(**values | changes)


def test_predictions_are_counted_by_arm_and_version():
    metrics = Metrics()
    metrics.observe(answer())
    metrics.observe(answer(probability=0.31, latency_ms=30, missing=["age"], unseen=["sex"]))
    metrics.observe(answer(arm="challenger", model_version="xgb-v2", probability=1.0))
    metrics.observe(answer(degraded_reasons=["features_stale"]))
    metrics.age(7200)
    text = metrics.text([metrics.snapshot()]).decode()

    champion = 'arm="champion",{}model_version="xgb-v1"'
    fast, likely = champion.format('le="0.005",'), champion.format('le="0.4",')
    assert f"fti_prediction_seconds_bucket{{{fast}}} 2.0" in text
    assert f"fti_prediction_seconds_count{{{champion.format('')}}} 3.0" in text
    assert f"fti_prediction_probability_bucket{{{likely}}} 1.0" in text
    assert 'fti_prediction_probability_bucket{arm="challenger",le="1.0"' in text
    assert "fti_predictions_missing_attributes_total 1.0" in text
    assert 'fti_predictions_unseen_attributes_total{attribute="sex"} 1.0' in text
    assert 'fti_predictions_degraded_total{reason="features_stale"} 1.0' in text
    assert 'fti_feature_age_seconds_bucket{le="21600.0"} 1.0' in text


def test_rows_of_batches_are_counted_beside_single_predictions():
    metrics = Metrics()
    row = {"arm": "champion", "model_version": "xgb-v1", "degraded_reasons": ["features_stale"]}
    metrics.observe_batch([row, row, {"error": "unknown"}])
    text = metrics.text([metrics.snapshot()]).decode()

    assert 'fti_batch_predictions_total{arm="champion",model_version="xgb-v1"} 2.0' in text
    assert 'fti_batch_predictions_total{arm="",model_version=""} 1.0' in text
    assert 'fti_batch_predictions_degraded_total{reason="features_stale"} 2.0' in text


def test_gauges_of_workers_are_put_together_as_each_says():
    metrics = Metrics()
    values = iter([1.0, 0.0])
    metrics.add_gauge("connected", "All are.", lambda: next(values))
    metrics.add_gauge("in_flight", "All of them.", lambda: 2, sum)
    text = metrics.text([metrics.snapshot(), metrics.snapshot()]).decode()

    assert "connected 0.0" in text
    assert "in_flight 4.0" in text


def test_damaged_numbers_of_another_worker_are_passed_over(tmp_path):
    files = MetricFiles(tmp_path)
    files.publish(Metrics().snapshot())
    (tmp_path / "1-abc.json").write_text("{")
    (tmp_path / "2-abc.json").write_text("[]")

    assert len(files.others()) == 1

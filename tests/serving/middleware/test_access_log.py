import json
import logging

import pytest

from serving.middleware.access_log import LINES_PER_SECOND, AccessLog
from serving.middleware.request_ids import current
from serving.process.logs import JsonLines


@pytest.fixture
def lines(caplog):
    """What has been logged, as fields."""
    caplog.set_level(logging.INFO, "serving.access_log")
    return lambda: [record.fields for record in caplog.records]


def test_failed_and_slow_requests_deserve_a_line():
    log = AccessLog(every=False, slow_s=0.25)

    assert [log.deserves(status, 0.001) for status in (200, 404, 429, 500, 503)] == [
        *(False, False, False),
        *(True, True),
    ]
    assert log.deserves(200, 0.25)
    assert AccessLog(every=True, slow_s=0.25).deserves(200, 0.001)


def test_many_failures_at_once_get_few_lines_and_the_next_says_how_many_got_none(lines):
    log = AccessLog(every=False, slow_s=0.25)
    for _ in range(1000):
        log.write("POST", "/predict", 503, 0.001, "shop", now_s=5.5)
    log.write("POST", "/predict", 503, 0.001, "shop", now_s=6.1)
    log.write("POST", "/predict", 503, 0.001, "shop", now_s=6.2)

    left_out = [fields.get("left_out") for fields in lines()]
    assert left_out == [None] * LINES_PER_SECOND + [1000 - LINES_PER_SECOND, None]


def test_a_long_path_is_cut(lines):
    AccessLog(every=True, slow_s=1).write("GET", "/" + "x" * 5000, 404, 0.001, "shop", now_s=1)

    assert len(lines()[0]["path"]) == 200


def test_a_line_is_json_whatever_it_tells():
    record = logging.makeLogRecord({"msg": 'a\n"b" %s', "args": ("\x00",), "fields": {"n": 1}})
    token = current.set(b"order-1")
    line = JsonLines().format(record)
    current.reset(token)

    assert "\n" not in line
    assert json.loads(line)["message"] == 'a\n"b" \x00'
    assert (json.loads(line)["request_id"], json.loads(line)["n"]) == ("order-1", 1)

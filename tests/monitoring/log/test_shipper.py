import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from feature_store.errors import StoreUnavailable
from monitoring.log.record import Flags
from monitoring.log.segments import frame
from monitoring.log.shipper import CHUNK_BYTES, PredictionShipper
from monitoring.log.table import PIECE_ROWS
from monitoring.log.writer import PredictionLog
from tests.monitoring.log.receipts import VECTOR, receipt
from tests.worlds.databases import url_for


@pytest.fixture
def database(database_url):
    """A connection to a database without a single prediction."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def shipper(database_url, tmp_path):
    shipper = PredictionShipper(tmp_path, lambda: psycopg.connect(database_url))
    yield shipper
    shipper.close()


@pytest.fixture
def log(tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=64 * 1024)
    yield log
    log.close()


def stored_ids(database) -> list[str]:
    rows = database.execute("SELECT prediction_id FROM predictions ORDER BY 1").fetchall()
    return [str(row[0]) for row in rows]


def append(log, *receipts) -> list[str]:
    log.append([each.pack() for each in receipts])
    return sorted(each.uuid for each in receipts)


def segment_of(tmp_path):
    [path] = tmp_path.glob("*.segment")
    return path


def scored(arm: str, version: int, probability: float) -> dict[str, object]:
    """An arm of a receipt as the table has it."""
    version_of = {"version": version, "model_version": f"xgb-v{version}"}
    return {"arm": arm, **version_of, "probability": probability}


def test_a_receipt_arrives_with_every_value(database, shipper, log):
    append(log, receipt(flags=Flags.REQUEST_ATTRIBUTES | Flags.FEATURES_CACHED))
    assert shipper.run_once() == 1

    with database.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM predictions").fetchone()
    features = np.array(row.pop("features"), dtype=np.float32)
    assert features.tobytes() == VECTOR.tobytes()
    del row["prediction_id"]
    assert row == {
        "predicted_at": datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC),
        "user_id": 7,
        "unit": "7",
        "arm": "challenger",
        "model_version": "xgb-v2",
        "probability": 0.5,
        "decision": 1,
        "scored": [
            scored("champion", 1, 0.3),
            scored("challenger", 2, 0.5),
        ],
        "experiment": "an experiment",
        "propensity": 0.1,
        "generation": 3,
        "engine": "onnxruntime",
        "flags": ["request_attributes", "features_cached"],
        "feature_event_time": datetime(2023, 11, 14, 22, 13, 20, 123_455, tzinfo=UTC),
        "schema_fingerprint": "0123456789abcdef",
        "caller": None,
    }


def test_a_receipt_without_user_has_nulls(database, shipper, log):
    append(log, receipt(user_id=None))
    shipper.run_once()

    query = "SELECT user_id, feature_event_time, flags FROM predictions"
    assert database.execute(query).fetchall() == [(None, None, [])]


def test_a_living_segment_is_shipped_once_and_stays(database, shipper, log, tmp_path):
    ids = append(log, receipt(), receipt())

    assert [shipper.run_once(), shipper.run_once()] == [2, 0]
    ids = sorted(ids + append(log, receipt()))
    assert shipper.run_once() == 1
    assert stored_ids(database) == ids
    assert segment_of(tmp_path).exists()


def test_a_finished_segment_is_removed_once_it_is_shipped(database, shipper, log, tmp_path):
    ids = append(log, receipt())
    log.close()

    assert shipper.run_once() == 1
    assert stored_ids(database) == ids
    assert list(tmp_path.glob("*.segment")) == []


def test_another_shipper_goes_on_where_the_first_one_ended(database, shipper, log, database_url):
    ids = append(log, receipt())
    shipper.run_once()
    ids += append(log, receipt())
    another = PredictionShipper(shipper.folder, lambda: psycopg.connect(database_url))

    assert another.run_once() == 1
    assert shipper.run_once() == 0
    another.close()
    assert stored_ids(database) == sorted(ids)


def test_shippers_at_the_same_time_ship_each_receipt_once(database, log, tmp_path, database_url):
    ids = append(log, *[receipt() for _ in range(100)])

    def ship() -> None:
        shipper = PredictionShipper(tmp_path, lambda: psycopg.connect(database_url))
        for _ in range(10):
            shipper.run_once()
        shipper.close()

    threads = [threading.Thread(target=ship) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        ids += append(log, receipt())
    for thread in threads:
        thread.join()
    ship()

    assert stored_ids(database) == sorted(ids)


def test_one_shipper_may_be_called_from_several_threads(database, shipper, log):
    same = receipt()
    ids = append(log, same, *[receipt() for _ in range(40)], *[same] * 5)
    log.close()
    with ThreadPoolExecutor(4) as threads:
        shipped = list(threads.map(lambda _: shipper.run_once(), range(4)))
    assert sum(shipped) == 41
    assert stored_ids(database) == sorted(set(ids))


def test_a_transaction_that_fails_leaves_nothing_half_done(
    database, shipper, log, settings, database_url
):
    ids = append(log, receipt())
    shipper.run_once()
    with psycopg.connect(url_for(settings, database_url, "owner"), autocommit=True) as owner:
        owner.execute("ALTER TABLE shipped_segments ADD CHECK (shipped_bytes < 1000)")
    ids = sorted(ids + append(log, *[receipt() for _ in range(10)]))

    with pytest.raises(StoreUnavailable, match="violates check constraint"):
        shipper.run_once()
    assert len(stored_ids(database)) == 1

    with psycopg.connect(url_for(settings, database_url, "owner"), autocommit=True) as owner:
        owner.execute(
            "ALTER TABLE shipped_segments DROP CONSTRAINT shipped_segments_shipped_bytes_check"
        )
    assert shipper.run_once() == 10
    assert stored_ids(database) == ids


def test_a_torn_tail_left_by_a_dead_writer_is_dropped(database, shipper, log, tmp_path, caplog):
    ids = append(log, receipt())
    log.close()
    with segment_of(tmp_path).open("ab") as file:
        file.write(frame(b"PRD1", receipt().pack())[:-20])

    assert shipper.run_once() == 1
    assert stored_ids(database) == ids
    assert list(tmp_path.glob("*.segment")) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_damaged_record_is_set_aside_with_an_alert(database, shipper, log, tmp_path, caplog):
    ids = [append(log, receipt())[0] for _ in range(3)]
    log.close()
    path = segment_of(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    shipper.run_once()

    assert stored_ids(database) == sorted([ids[0], ids[2]])
    assert list(tmp_path.glob("*.segment")) == []
    [kept] = (tmp_path / "quarantine").iterdir()
    assert len(kept.read_bytes()) == len(content) // 3
    assert [(r.levelno, "is damaged" in r.getMessage()) for r in caplog.records] == [
        (logging.ERROR, True)
    ]


def test_a_record_that_postgresql_refuses_does_not_hold_up_the_others(
    database, shipper, log, tmp_path, caplog
):
    good = append(log, receipt(), receipt())
    append(log, receipt(unit="not in a text: \0"))
    good += append(log, receipt())

    assert shipper.run_once() == 3
    assert stored_ids(database) == sorted(good)
    assert "was refused" in caplog.text
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_a_record_of_unknown_kind_is_set_aside(database, shipper, log, caplog):
    log.append([b"from the future"], kind=b"PRD9")
    ids = append(log, receipt())

    assert shipper.run_once() == 1
    assert stored_ids(database) == ids
    assert "kind b'PRD9' is not known" in caplog.text


def test_an_unreachable_database_loses_nothing(database, log, tmp_path, database_url):
    ids = append(log, receipt())
    log.close()
    gone = PredictionShipper(
        tmp_path, lambda: psycopg.connect("postgresql://127.0.0.1:1/x", connect_timeout=1)
    )
    with pytest.raises(StoreUnavailable, match="connection failed"):
        gone.run_once()

    back = PredictionShipper(tmp_path, lambda: psycopg.connect(database_url))
    assert back.run_once() == 1
    back.close()
    assert stored_ids(database) == ids


WRITER = """
import os, signal, sys
from pathlib import Path
from tests.monitoring.log.test_shipper import receipt
from monitoring.log.writer import PredictionLog
from tests.monitoring.log.receipts import NOW_US, VECTOR, receipt
log = PredictionLog(Path(sys.argv[1]), 8192)
while True:
    each = receipt()
    log.append([each.pack()])
    os.write(1, (each.uuid + chr(10)).encode())
"""


def test_what_a_killed_writer_acknowledged_arrives_exactly_once(database, shipper, tmp_path):
    acknowledged = []
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        acknowledged += [writer.stdout.readline().decode().strip() for _ in range(200)]
        shipper.run_once()
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.communicate()[0].decode().split()
        if len(acknowledged[-1]) < 36:
            acknowledged.pop()  # its line was cut
    shipper.run_once()

    stored = stored_ids(database)
    assert len(stored) == len(set(stored))
    # One receipt a writer may be in the log and not yet acknowledged.
    assert set(acknowledged) <= set(stored)
    assert len(stored) - len(acknowledged) <= 5
    assert list(tmp_path.glob("*.segment")) == []


def test_a_shipper_that_rests_in_between_ships_everything(database, database_url, tmp_path, log):
    ids = append(log, *[receipt() for _ in range(3 * PIECE_ROWS + 1)])
    shipper = PredictionShipper(tmp_path, lambda: psycopg.connect(database_url), rest_share=2.0)
    assert shipper.run_once() == len(ids)
    shipper.close()
    assert stored_ids(database) == ids


def test_a_receipt_longer_than_what_is_read_at_once_arrives(database, shipper, tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=2 * CHUNK_BYTES)
    long = replace(receipt(), vector=np.arange(CHUNK_BYTES // 4 - 1, dtype=np.float32))
    assert len(long.pack()) > CHUNK_BYTES
    ids = append(log, long)
    assert shipper.run_once() == 1
    log.close()
    assert stored_ids(database) == ids

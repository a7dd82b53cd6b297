"""Labels on the prediction log's road: packed, shipped once, corrected by later rows."""

import itertools
from dataclasses import replace

import psycopg
import pytest
from hypothesis import given, strategies as st

from monitoring.errors import RecordCorrupt
from monitoring.log.labels import (
    KIND_LABEL,
    KIND_LABEL_ONCE,
    OF_A_SOURCE,
    LabelRecord,
    said_labels,
)
from monitoring.log.record import new_prediction_id, time_us_of
from monitoring.log.shipper import PredictionShipper
from monitoring.log.writer import PredictionLog
from tests.monitoring.log.receipts import receipt

AT_US = 1_700_000_000_123_456
TIMES = st.integers(-(2**62), 2**62)
RECORDS = st.builds(
    LabelRecord,
    prediction_id=st.binary(min_size=16, max_size=16).filter(any) | st.none(),
    user_id=st.none() | st.just(0) | st.integers(-(2**63) + 1, 2**63 - 1),
    label=st.sampled_from([0, 1]),
    label_time_us=TIMES,
    received_at_us=TIMES,
)


@given(RECORDS)
def test_a_record_comes_back(record):
    assert LabelRecord.unpack(record.pack()) == record


@given(RECORDS, st.data())
def test_a_cut_record_is_refused(record, data):
    body = record.pack()
    with pytest.raises(RecordCorrupt, match="cannot be read"):
        LabelRecord.unpack(body[: data.draw(st.integers(0, len(body) - 1))])


@given(st.integers(0, 2**47 * 1000 - 1))
def test_the_time_of_a_prediction_is_read_out_of_its_id(time_us):
    assert time_us_of(new_prediction_id(time_us)) == time_us


@pytest.fixture
def database(database_url):
    """A connection to a database without labels and predictions."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def ship(database_url, tmp_path):
    """Ships what logs below a folder of this test hold; told which of them."""
    shippers = []

    def run(name: str = "log") -> int:
        shippers.append(PredictionShipper(tmp_path / name, lambda: psycopg.connect(database_url)))
        return shippers[-1].run_once()

    yield run
    for shipper in shippers:
        shipper.close()


@pytest.fixture
def append(tmp_path):
    """Appends labels to a log of this test."""
    logs: dict[str, PredictionLog] = {}

    def run(*labels: LabelRecord, name: str = "log") -> None:
        log = logs.setdefault(name, PredictionLog(tmp_path / name, 64 * 1024))
        log.append([label.pack() for label in labels], KIND_LABEL)

    yield run
    for log in logs.values():
        log.close()


def of_user(label: int, received: int, user: int = 7) -> LabelRecord:
    return LabelRecord(None, user, label, AT_US, AT_US + received)


def stored(database) -> list[int]:
    """The labels in the order in which they count."""
    query = "SELECT label FROM labels ORDER BY created_timestamp"
    return [label for (label,) in database.execute(query).fetchall()]


def test_the_same_label_again_changes_nothing(database, append, ship):
    append(of_user(1, 0), of_user(1, 1))
    ship()
    append(of_user(1, 2))
    ship()

    assert stored(database) == [1]


def test_corrections_are_later_rows_also_within_one_segment(database, append, ship):
    append(*(of_user(label, n) for n, label in enumerate([0, 1, 1, 0])))
    ship()
    append(of_user(1, 9))
    ship()

    assert stored(database) == [0, 1, 0, 1]


def test_of_two_labels_the_one_reported_later_counts_whichever_arrives_first(
    database, append, ship
):
    append(of_user(1, received=0), name="slow")
    append(of_user(0, received=5), name="quick")
    ship("quick")
    ship("slow")

    assert stored(database) == [0]


def test_labels_of_a_user_of_another_time_and_of_predictions_are_apart(database, append, ship):
    prediction = new_prediction_id(AT_US)
    append(of_user(1, 0), of_user(0, 0, user=8))
    append(LabelRecord(prediction, None, 0, AT_US, AT_US))
    append(LabelRecord(None, 7, 0, AT_US + 1, AT_US))
    ship()

    assert sorted(stored(database)) == [0, 0, 0, 1]


OF_THE_SOURCE = (
    "INSERT INTO labels (user_id, label, label_time, created_timestamp) "
    "VALUES (7, {label}, timestamptz 'epoch' + 1700000000.123456 * interval '1 s', {created})"
)


def counting(database) -> list[tuple[int, str]]:
    """The labels that count, and who said so."""
    found = said_labels(database, user=7, most=10)
    return [(each.label, each.said_by) for each in found if each.counts]


@pytest.mark.parametrize("source_is_first", [True, False])
def test_a_reported_label_never_outranks_a_sources_of_the_same_event(
    database, append, ship, source_is_first
):
    by_shop = replace(of_user(0, 1), caller="shop")
    if source_is_first:
        database.execute(OF_THE_SOURCE.format(label=1, created="now()"))
    append(of_user(1, 0), by_shop)
    ship()
    if not source_is_first:
        assert counting(database) == [(0, "shop")]
        database.execute(OF_THE_SOURCE.format(label=1, created="clock_timestamp()"))
    append(replace(of_user(1, 2), caller="shop"), replace(of_user(0, 3), caller="shop"))
    ship()

    assert counting(database) == [(1, "source")]
    said = said_labels(database, caller="shop", most=10)
    assert [each.label for each in said] == [0, 1, 0]
    assert said_labels(database, user=8, most=10) == []


def test_a_reported_label_outranks_a_sources_where_that_is_configured(database, append, ship):
    database.execute(OF_THE_SOURCE.format(label=1, created="now()"))
    append(replace(of_user(0, 1), caller="court", authority=OF_A_SOURCE))
    ship()

    assert counting(database) == [(0, "court")]


def test_records_of_the_layout_before_are_read(database, tmp_path, ship):
    log = PredictionLog(tmp_path / "log", 64 * 1024)
    log.append([of_user(1, 0).pack()[:-1]], KIND_LABEL_ONCE)
    log.close()
    assert ship() == 1
    assert counting(database) == [(1, "anybody")]


@pytest.mark.parametrize("caller", [None, "shop", "größter"])
def test_a_record_is_read_back_as_it_was(caller):
    label = LabelRecord(new_prediction_id(AT_US), None, 1, AT_US, AT_US + 5, 1, caller)
    assert LabelRecord.unpack(label.pack()) == label


def test_receipts_and_labels_of_one_segment_arrive_together(database, tmp_path, ship):
    log = PredictionLog(tmp_path / "log", 64 * 1024)
    for n in range(3):
        log.append([receipt().pack()])
        log.append([of_user(1, 0, user=n + 1).pack()], KIND_LABEL)
    log.close()

    assert ship() == 6
    assert len(stored(database)) == 3
    assert database.execute("SELECT count(*) FROM predictions").fetchone() == (3,)
    assert list((tmp_path / "log").glob("*.segment")) == []


def test_a_damaged_label_is_set_aside_and_the_others_arrive(database, tmp_path, ship, caplog):
    log = PredictionLog(tmp_path / "log", 64 * 1024)
    for n in range(3):
        log.append([of_user(1, 0, user=n + 1).pack()], KIND_LABEL)
    log.close()
    [path] = (tmp_path / "log").glob("*.segment")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ship()

    assert len(stored(database)) == 2
    assert "is damaged" in caplog.text
    assert len(list((tmp_path / "log" / "quarantine").iterdir())) == 1


def test_many_corrections_of_many_users_end_as_they_were_reported(database, append, ship):
    labels = [of_user((n * 7919 >> 3) & 1, n, user=1 + n % 50) for n in range(1_000)]
    for start, stop in itertools.pairwise(range(0, 1_001, 100)):
        append(*labels[start:stop])
        ship()

    query = (
        "SELECT DISTINCT ON (user_id) user_id, label FROM labels "
        "ORDER BY user_id, created_timestamp DESC"
    )
    expected = {label.user_id: label.label for label in labels}
    assert dict(database.execute(query).fetchall()) == expected

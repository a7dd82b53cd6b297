"""Columns that are stored to the digit: through files and both stores, and back as they went in."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from configs.command_line import Stopwatch
from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.sources import FileSourceConfig, SourceFile
from feature_store import versions
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.exact import ExactCodec, ExactColumn
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, InvalidValue, SchemaMismatch
from feature_store.ingest.compute import compute
from feature_store.ingest.feature_file import read_rows, refill, write_rows
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging
from feature_store.offline.newest_rows import newest_of, newest_rows
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.references import Reference
from feature_store.sources.files import FileSource
from feature_store.training_data import training_frame, training_rows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OPENED = datetime(2026, 1, 5, 10, 0, 0, 123_456, tzinfo=UTC)


def account_view() -> FeatureView:
    view = FeatureView("accounts", "user_id", missing=("?",))
    view.raw("visits", integer=True, description="How often.")
    view.raw("member", boolean=True, description="Whether a member.")
    view.lookup("account", "int64", description="The account's number.")
    view.lookup("balance", "float64", unit="EUR", description="What is there.")
    view.lookup("nick", "string", protected=True, description="What friends say.")
    view.lookup("opened", "timestamp", description="When it was opened.")

    @view.feature(integer=True)
    def twice(visits):
        "Visits, twice."
        return visits + visits

    return view


VIEW = account_view()
SCHEMA = VIEW.schema
ROWS: list[dict[str, Any]] = [
    {
        "user_id": 1,
        "visits": 3,
        "member": "yes",
        "account": 2**63 - 1,
        "balance": 0.1,
        "nick": "  Zoë \U0001f600, \"the\" 'one'  ",
        "opened": OPENED.isoformat(),
    },
    {"user_id": 2, "account": 16_777_217, "balance": 5e-324, "opened": "2026-01-05T12:00:00+02:00"},
    {"user_id": 3, "member": "0", "nick": "?", "account": "9007199254740993"},
]
VALUES: dict[int, dict[str, Any]] = {
    1: {
        **{"visits": 3, "member": True, "twice": 6, "account": 2**63 - 1, "balance": 0.1},
        **{"nick": "Zoë \U0001f600, \"the\" 'one'", "opened": OPENED},
    },
    2: {
        **{"visits": None, "member": None, "twice": None, "account": 16_777_217, "nick": None},
        **{"balance": 5e-324, "opened": datetime(2026, 1, 5, 10, tzinfo=UTC)},
    },
    3: {
        **{"visits": None, "member": False, "twice": None, "account": 9007199254740993},
        **{"balance": None, "nick": None, "opened": None},
    },
}


def ingest(
    rows: list[dict[str, Any]], folder: Path, offline: OfflineStore, online: OnlineStore
) -> int:
    """Write a file of rows and bring it into both stores; give how many were new."""
    names = ["user_id", "time", "late", *SCHEMA.columns]
    with (folder / "accounts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in names if name != "twice"])
        writer.writeheader()
        for row in rows:
            writer.writerow({"time": "2026-02-01", "late": "no", **row})
    config = FeatureConfig(
        event_time=EventTimeConfig(start=NOW - timedelta(days=90), end=NOW),
        source=FileSourceConfig(
            files=(SourceFile(path="accounts.csv"),),
            key_column="user_id",
            event_time_column="time",
            label_column="late",
            label_values={"no": 0, "yes": 1},
        ),
    )
    source = FileSource(config.source, folder, {}, name="accounts", is_counted=False)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, SCHEMA, VIEW.entity)
        compute(source.read(), staging, VIEW, config, None, Stopwatch(), NOW)
        versions.start_fill(offline, online, VIEW.entity)
        stored = staging.store()
    materialize(offline, online, stored.keys, NOW)
    versions.switch(offline, online, 0)
    return stored.added


@pytest.fixture
def online(online: OnlineStore) -> OnlineStore:
    return online.of(SCHEMA)


def test_what_goes_in_comes_back_to_the_digit_online(offline, online, tmp_path):
    assert ingest(ROWS, tmp_path, offline, online) == 3
    for user, values in VALUES.items():
        row = online.read(user)
        assert SCHEMA.decode(row.vector, row.exact) == values
    vector = online.read(1).vector
    assert vector[SCHEMA.position("balance")] == np.float32(0.1)
    assert online.read(2).vector[SCHEMA.position("balance")] == 0


def test_and_offline_as_of_any_time(offline, online, tmp_path):
    ingest(ROWS, tmp_path, offline, online)
    users = np.array([3, 1, 2, 4])
    times = np.full(4, np.datetime64("2026-02-02", "us"))
    matrix, found = offline.historical(SCHEMA, "user_id", users, times)
    assert found.tolist() == [True, True, True, False]
    decoded = [SCHEMA.decode(*row) for row in zip(matrix.values, matrix.exact, strict=True)]
    assert decoded == [VALUES[3], VALUES[1], VALUES[2], dict.fromkeys(SCHEMA.columns)]
    before = offline.historical(SCHEMA, "user_id", users, times - np.timedelta64(5, "D"))
    assert not before[1].any()
    latest = offline.latest(SCHEMA, "user_id", NOW - timedelta(days=60), NOW)
    assert latest.exact.tolist() == matrix.exact[[1, 2, 0]].tolist()
    version = offline.versions.find("accounts", SCHEMA.fingerprint)
    assert version.schema.fingerprint == SCHEMA.fingerprint
    [block] = newest_rows(offline.postgres, version)
    assert block.matrix.exact.tolist() == latest.exact.tolist()
    assert block.matrix.values.tobytes() == latest.values.tobytes()
    with offline.postgres.transaction() as connection:
        few = newest_of(connection, version.table, "user_id", SCHEMA, np.array([2, 9]))
    assert few.matrix.exact.tolist() == latest.exact[1:2].tolist()


def test_a_correction_of_a_digit_is_one(offline, online, tmp_path):
    ingest(ROWS, tmp_path, offline, online)
    assert ingest(ROWS, tmp_path, offline, online) == 0
    corrected = [{**ROWS[0], "account": 2**63 - 2}, {**ROWS[1], "balance": 1e-323}, ROWS[2]]
    assert ingest(corrected, tmp_path, offline, online) == 2
    row = online.read(1)
    assert SCHEMA.decode(row.vector, row.exact)["account"] == 2**63 - 2
    row = online.read(2)
    assert SCHEMA.decode(row.vector, row.exact)["balance"] == 1e-323


def test_what_cannot_be_held_is_quarantined_with_its_reason(offline, online, tmp_path):
    bad = [
        {**ROWS[0], "account": 2**63},
        {**ROWS[0], "account": 1.5},
        {**ROWS[0], "balance": "much"},
        {**ROWS[0], "balance": "inf"},
        {**ROWS[0], "opened": "yesterday"},
        {**ROWS[0], "nick": "x" * 10_001},
    ]
    ingest([*bad, ROWS[0]], tmp_path, offline, online)
    reasons = offline.postgres.query("SELECT reason FROM quarantine ORDER BY row_number")["reason"]
    assert [reason.split(", expected")[0][:40] for reason in reasons] == [
        f"account is '{2**63}'",
        "account is '1.5'",
        "balance is 'much'",
        *(reasons[3].split(", expected")[0][:40],),
        "opened is 'yesterday'",
        f"nick is '{'x' * 31}",
    ]
    assert reasons[3].startswith("balance is")


def test_people_see_them_in_sql_and_in_frames(offline, online, tmp_path):
    ingest(ROWS, tmp_path, offline, online)
    shown = offline.postgres.query("SELECT * FROM accounts ORDER BY user_id")
    assert shown["account"].to_list() == [VALUES[user]["account"] for user in (1, 2, 3)]
    assert shown["nick"].to_list() == [VALUES[user]["nick"] for user in (1, 2, 3)]
    assert shown["member"].to_list() == [True, None, False]

    references = [Reference(VIEW, name) for name in ("account", "opened", "member", "balance")]
    frame, _ = training_frame(offline, references, "late", NOW - timedelta(days=60), NOW)
    assert frame["account"].tolist() == [2**63 - 1, 16_777_217, 9007199254740993]
    assert frame["opened"].dtype == "datetime64[us, UTC]"
    assert frame["opened"][1] == OPENED
    assert frame["balance"].tolist()[:2] == [0.1, 5e-324]
    assert frame["member"].tolist() == [True, pd.NA, False]


def test_they_go_through_files_of_rows(offline, online, tmp_path):
    ingest(ROWS, tmp_path, offline, online)
    rows = training_rows(offline, SCHEMA, "user_id", NOW - timedelta(days=60), NOW)
    write_rows(tmp_path / "rows.parquet", rows, "user_id")
    again = read_rows(tmp_path / "rows.parquet", SCHEMA, "user_id")
    assert again.features.exact.tolist() == rows.features.exact.tolist()
    assert refill(offline, online, again, "user_id").added == 0


def test_a_model_takes_what_a_float32_can_hold_and_functions_take_no_lookups():
    assert SCHEMA.names == ("visits", "member", "balance", "twice")
    assert SCHEMA.columns == ("visits", "member", "balance", "twice", "account", "nick", "opened")
    values = Engine(VIEW).row({"visits": 3, "member": True, "balance": 0.1})
    assert values.tolist() == [3, 1, float(np.float32(0.1)), 6]
    view = account_view()
    with pytest.raises(DefinitionError, match="takes 'nick', an exact column of type string"):

        @view.feature()
        def length(nick):
            "Its length."
            return nick

    with pytest.raises(DefinitionError, match="'account' is defined twice"):
        view.raw("account", description="Again.")
    with pytest.raises(DefinitionError, match="of type 'int32'; expected int64, float64, string"):
        view.lookup("small", "int32", description="Small.")


def test_the_fingerprint_tells_types_apart():
    def fingerprint(kind):
        view = FeatureView("v", "e")
        view.raw("x", description="X.")
        if kind:
            view.lookup("y", kind, description="Y.")
        return view.schema.fingerprint

    kinds = (None, "int64", "float64", "string", "timestamp")
    assert len({fingerprint(kind) for kind in kinds}) == 5
    again = FeatureSchema.from_meaning("accounts", SCHEMA.meaning)
    assert again.fingerprint == SCHEMA.fingerprint
    assert again.columns == SCHEMA.columns
    chosen = SCHEMA.select(["nick", "balance"])
    assert chosen.columns == ("balance", "nick")


COLUMNS = [ExactColumn(t, t, "") for t in ("int64", "float64", "string", "timestamp")]
MOMENTS = st.integers(-(10**16), 10**16).map(lambda us: NOW + timedelta(microseconds=us))
EXACT_VALUES = st.tuples(
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
    st.none() | MOMENTS,
)


@given(EXACT_VALUES, st.integers(0, 100))
def test_any_values_are_packed_and_unpacked_to_the_bit_or_the_bytes_are_refused(values, cut):
    codec = ExactCodec(COLUMNS)
    packed = codec.pack(values)
    assert repr(codec.unpack(packed)) == repr(values)
    with pytest.raises(SchemaMismatch):
        codec.unpack(packed[: min(cut, len(packed) - 1)])
    with pytest.raises(SchemaMismatch):
        codec.unpack(packed + b"x")


@given(EXACT_VALUES)
def test_a_value_that_is_read_again_is_the_same(values):
    for column, value in zip(COLUMNS, values, strict=True):
        text = None if value is None else value.isoformat() if column.name == "timestamp" else value
        try:
            read = column.read(text)
        except InvalidValue:
            assert column.name == "string"
            continue
        expected = value.strip() or None if isinstance(value, str) else value
        if column.name != "string":
            assert repr(read) == repr(expected)


def test_a_matrix_without_values_of_exact_columns_has_them_missing():
    values = np.zeros((2, 4), np.float32)
    times = np.full(2, np.datetime64("2026-01-01", "us"))
    matrix = FeatureMatrix(values, np.array([1, 2]), times, SCHEMA)
    assert matrix.exact.tolist() == [[None] * 4] * 2
    assert matrix.rows(slice(1)).exact.shape == (1, 4)

import dataclasses
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, strategies as st

from monitoring.errors import RecordCorrupt
from monitoring.log.record import (
    DEGRADED,
    Context,
    Flags,
    PredictionRecord,
    ScoredArm,
    new_prediction_id,
)

CONTEXT = Context(
    generation=3,
    arm="challenger",
    propensity=0.1,
    scored=(ScoredArm("champion", 1, "xgb-v1"), ScoredArm("challenger", 2, "xgb-v2")),
    experiment="xgb-v2-vs-xgb-v1-g3",
    engine="onnxruntime 1.32 one thread",
    fingerprint="0123456789abcdef",
    threshold=0.4,
)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
VECTORS = st.lists(st.floats(width=32), max_size=60).map(lambda v: np.array(v, dtype=np.float32))
RECORDS = st.builds(
    PredictionRecord,
    prediction_id=st.binary(min_size=16, max_size=16),
    predicted_at_us=INT64,
    user_id=st.none() | st.just(0) | st.integers(-(2**63) + 1, 2**63 - 1),
    unit=st.text(max_size=128),
    event_time_us=st.none() | INT64,
    vector=VECTORS,
    outputs=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    flags=st.sampled_from([Flags.NONE, Flags.FEATURES_CACHED, ~Flags.NONE]),
    context=st.just(CONTEXT),
)


def without_vector(record: PredictionRecord) -> dict[str, object]:
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    del fields["vector"]
    return fields


@given(RECORDS)
def test_a_record_comes_back_to_the_bit(record):
    back = PredictionRecord.unpack(record.pack())

    assert without_vector(back) == without_vector(record)
    assert back.vector.tobytes() == record.vector.tobytes()


@given(RECORDS, st.data())
def test_a_cut_record_is_refused(record, data):
    body = record.pack()
    cut = data.draw(st.integers(0, len(body) - 1))

    with pytest.raises(RecordCorrupt, match=f"record of {cut} bytes cannot be read"):
        PredictionRecord.unpack(body[:cut])


@given(st.binary(max_size=300))
def test_bytes_that_are_no_record_are_refused(body):
    with pytest.raises(RecordCorrupt):
        PredictionRecord.unpack(body)


@given(RECORDS)
def test_the_answering_arm_decides(record):
    assert record.probability == record.outputs[1]
    assert record.decision == int(record.outputs[1] >= CONTEXT.threshold)


def test_flags_have_names_that_people_read():
    flags = Flags.REQUEST_ATTRIBUTES | Flags.FEATURES_STALE

    assert flags.names == ["request_attributes", "features_stale"]
    assert (flags & DEGRADED).names == ["features_stale"]


def test_ids_sort_by_time_and_never_repeat():
    times = range(1_700_000_000_000_000, 1_700_000_000_005_000)
    ids = [new_prediction_id(time) for time in times]

    assert ids == sorted(ids)
    assert len({new_prediction_id(times[0]) for _ in range(10_000)}) == 10_000


def test_an_id_is_a_uuid_of_version_7_that_tells_the_millisecond():
    value = UUID(bytes=new_prediction_id(1_700_000_000_123_456))

    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert value.int >> 80 == 1_700_000_000_123

"""Bodies as callers send them: compressed, of other types, with fields twice, and far too deep."""

import gzip
import json
import zlib

import pytest

from tests.worlds.sockets import USER, connect, last_answer, request, until_closed

ROWS = [{"user_id": user} for user in range(1, 301)]
LABELS = {
    "labels": [{"user_id": 1, "label_time": "2026-01-01T00:00:00Z", "label": 1}] * 3,
}
PATHS = ["/predict", "/explain", "/predict/batch", "/feedback"]


def post(api, path, content, **headers):
    given = {"Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post(path, content=content, headers=given)


def body_of(path):
    if path == "/predict/batch":
        return {"rows": ROWS}
    return LABELS if path == "/feedback" else {"user_id": 7}


@pytest.mark.parametrize("path", PATHS)
def test_a_compressed_body_is_answered_as_a_plain_one(api, path):
    plain = json.dumps(body_of(path)).encode()
    answer = post(api, path, gzip.compress(plain), Content_Encoding="gzip")

    assert answer.status_code == post(api, path, plain).status_code
    assert answer.is_success


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_another_compression_is_refused_with_the_one_that_is_taken(api, path, encoding):
    answer = post(api, path, b"\x8b\x02", Content_Encoding=encoding)

    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip"
    assert answer.json()["error"].startswith(
        f"The body is said to be compressed by '{encoding}'; expected gzip, or none"
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_type_is_refused_with_the_one_that_is_taken(api, path, kind):
    answer = api.post(path, content=b"\xff", headers={"Content-Type": kind})

    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]


@pytest.mark.parametrize("path", PATHS)
def test_a_bomb_is_refused_early(api, path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    bomb = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    answer = post(api, path, bomb[: 60 * 1024], Content_Encoding="gzip")

    assert answer.status_code == 413


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x1f\x8b no gzip", "is said to be gzip, and is not"),
        (gzip.compress(USER)[:-9], "ends early"),
        (gzip.compress(USER) + b"more", "goes on behind its end"),
        (b"", "ends early"),
    ],
    ids=["none", "cut", "more", "empty"],
)
def test_a_damaged_compression_is_refused(api, path, content, why):
    answer = post(api, path, content, Content_Encoding="gzip")

    assert answer.status_code == 400
    assert why in answer.json()["error"]


def test_a_large_answer_is_compressed_for_those_who_ask_for_it(api):
    body = json.dumps({"rows": ROWS})
    plain = post(api, "/predict/batch", body, Accept_Encoding="identity")
    packed = post(api, "/predict/batch", body, Accept_Encoding="gzip")

    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == (
        "gzip",
        "Accept-Encoding",
    )
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert [row["probability"] for row in packed.json()["predictions"]] == [
        row["probability"] for row in plain.json()["predictions"]
    ]
    one = post(api, "/predict", USER, Accept_Encoding="gzip")
    assert "content-encoding" not in one.headers


@pytest.mark.parametrize(
    ("path", "text", "field"),
    [
        ("/predict", '{"user_id": 1, "user_id": 2}', "user_id"),
        ("/predict", '{"age": 30, "user_id": 1, "age": 40}', "age"),
        ("/predict", '{"workclass": "a:b", "age": 30, "age": 30}', "age"),
        ("/predict", '{"age": 1, "\\u0061ge": 2}', "age"),
        ("/predict", '{"hours-per-week": 1, "hours-per-week": 2}', "hours-per-week"),
        ("/predict", '{"hours-per-week": 1, "hours_per_week": 2}', "hours_per_week"),
        ("/explain", '{"user_id": 1, "user_id": 2}', "user_id"),
        ("/predict/batch", '{"rows": [{"age": 1}, {"age": 1, "age": 2}]}', "rows.1.age"),
        (
            "/predict/batch",
            '{"rows": [{"hours-per-week": 1, "hours_per_week": 2}]}',
            "rows.0.hours_per_week",
        ),
        ("/predict/batch", '{"age": 1, "age": 2}', "age"),
        ("/predict/batch", '{"rows": [{"age": 1}], "rows": [{"age": 2}]}', "rows"),
        ("/feedback", '{"labels": [{"label": 1, "label": 0}]}', "labels.0.label"),
        ("/feedback", '{"label": 1, "label": 0}', "label"),
    ],
)
def test_a_field_that_is_there_twice_is_named(api, path, text, field):
    answer = post(api, path, text)

    assert answer.status_code == 422
    assert field in [problem["field"] for problem in answer.json()["fields"]]


def test_colons_in_texts_are_no_fields(api):
    assert post(api, "/predict", '{"workclass": "a:b::c", "unit_id": ":"}').status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b'{"labels": [' + b"{}," * 200_000 + b"{}]}",
        b'{"labels": [{"a": [' + b"{}," * 2_000_000 + b"{}]}]}",
        b'{"labels": [' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"]}",
        b'{"labels": ["' + b"\xf0\x9f\x98\x80" * 1_000_000 + b'"]}',
        b'{"a": [' + b"{}," * 2_000_000 + b"{}]}",
        b"[" * 3_000_000,
    ],
    ids=["rows", "one row", "deep", "characters", "no list", "brackets"],
)
@pytest.mark.parametrize("path", ["/feedback", "/predict/batch"])
def test_what_would_become_far_more_than_its_bytes_is_refused(api, path, content):
    content = content.replace(b"labels", b"rows") if path == "/predict/batch" else content
    answer = post(api, path, content)

    assert answer.status_code == 422
    assert len(answer.content) < 100_000


def test_a_row_may_hold_braces_and_any_characters(api):
    rows = [{"unit_id": '}{ \\ " é 😀 }', "age": 30}, {"unit_id": "é" * 100, "workclass": "}"}]
    for ensure_ascii in (False, True):
        answer = post(api, "/predict/batch", json.dumps({"rows": rows}, ensure_ascii=ensure_ascii))
        assert answer.json()["answered"] == 2, answer.text


def test_thousands_of_unknown_fields_are_not_all_explained(api):
    answer = post(api, "/predict", json.dumps({f"a{n}": n for n in range(4_000)}))

    assert answer.status_code == 422
    assert answer.json()["fields"] == [
        {"field": "body", "value": "4000 fields", "expected": "expected at most 100 fields"}
    ]
    some = post(api, "/predict", json.dumps({f"a{n}": n for n in range(90)}))
    assert len(some.json()["fields"]) == 90


def test_a_body_that_breaks_off_is_an_error_of_the_caller(api):
    with connect(api) as connection:
        chunked = request("/predict", headers=b"Transfer-Encoding: chunked\r\n", method="POST")
        kind = b"Content-Type: application/json\r\n\r\n"
        connection.sendall(chunked[:-2] + kind + b"1\r\n{\r\nno size\r\n")
        status, answer = last_answer(until_closed(connection))
    assert (status, answer["error"][:27]) == (400, "This is no HTTP/1.1 request")

"""What a connection may send, keep waiting and leave unread, before any key is asked for."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress

import pytest

from tests.worlds.serving import Api, running_api
from tests.worlds.sockets import (
    JSON,
    USER,
    answer_of,
    connect,
    last_answer,
    request,
    until_closed,
)

TIGHT = {
    "MAX_CONNECTIONS": "8",
    "MAX_HEADER_BYTES": "1000",
    "MAX_HEAD_BYTES": "4000",
    "MAX_HEADERS": "20",
    "MAX_PIPELINED": "3",
    "HEAD_LIMIT_S": "0.6",
    "BODY_LIMIT_S": "0.6",
    "KEEP_ALIVE_S": "1.5",
    "SLOWEST_BYTES_S": "1000000",
    "UNREAD_BYTES": "2000000",
}


UNREAD = 'refused_total{reason="unread"}'


@pytest.fixture(scope="module")
def tight(shared_world):
    """An API that soon has enough."""
    limits = {f"FTI_DEPLOYMENT__API__HTTP__{name}": value for name, value in TIGHT.items()}
    with running_api(shared_world, **limits) as api:
        yield api


@pytest.fixture(autouse=True)
def _serves_on(request):
    yield
    for name in ("tight", "api"):
        if name in request.fixturenames:
            assert request.getfixturevalue(name).post("/predict", json={"user_id": 7}).is_success


def refused(api: Api, sent: bytes) -> tuple[int, str]:
    """What is answered to these bytes before the connection is closed."""
    with connect(api) as connection:
        connection.sendall(sent)
        status, answer = last_answer(until_closed(connection))
        return status, answer["error"]


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        (b"X-A: " + b"a" * 2000 + b"\r\n", "The header 'x-a' are longer than 1000 bytes"),
        (b"A" * 2000 + b": a\r\n", "are longer than 1000 bytes"),
        (b"X-A: " + b"a" * 900 + b"\r\n", None),
        ((b"X-A: " + b"a" * 800 + b"\r\n") * 5, "line and headers are longer than 4000 bytes"),
        (b"X-A: a\r\n" * 30, "There are more than 20 headers"),
    ],
)
def test_headers_have_a_limit_each_and_together(tight, headers, what):
    sent = request("/predict", USER, headers=headers + b"Connection: close\r\n")
    with connect(tight) as connection:
        connection.sendall(sent)
        status, answer = last_answer(until_closed(connection))
    assert (status, "error" in answer) == ((431, True) if what else (200, False))
    assert what is None or what in answer["error"]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 300_000,
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 300_000,
        b"GET / HTTP/1.1\r\n" + b"A" * 300_000,
        b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 30_000,
        b"\r\n" * 150_000,
        b"POST /predict HTTP/1.1\r\nHost: x\r\n"
        + JSON
        + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX-A: "
        + b"a" * 300_000,
    ],
    ids=["url", "value", "name", "number", "line ends", "behind the body"],
)
def test_headers_are_counted_while_they_arrive(tight, sent):
    status, error = refused(tight, sent)
    assert status == 431
    assert error.startswith(
        ("The request's line and headers are longer than 4000 bytes", "There are more than 20")
    )


def test_headers_in_many_pieces_are_taken_and_counted(tight):
    whole = request("/predict", USER, headers=b"X-A: " + b"a" * 900 + b"\r\n")
    with connect(tight) as connection:
        for place in range(0, len(whole), 100):
            connection.sendall(whole[place : place + 100])
            time.sleep(0.005)
        assert answer_of(connection)[0] == 200


def test_a_half_sent_head_is_timed_from_its_first_byte(tight):
    with connect(tight) as connection:
        began = time.monotonic()
        for byte in request("/health")[:-2]:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
            if time.monotonic() - began > 1.3:
                break
        status, answer = last_answer(until_closed(connection))
    assert status == 408
    assert answer["error"].startswith("The headers were not whole within 0.6 s")


def test_a_body_that_trickles_ends_long_before_a_request_that_works(tight):
    with connect(tight) as connection:
        connection.sendall(request("/predict", USER)[:-5])
        status, answer = last_answer(until_closed(connection))
    assert status == 408
    assert "The body came more slowly than 1000000 bytes a second, for 0.6 s" in answer["error"]


def test_bodies_that_do_not_come_give_their_places_to_requests_that_do(shared_world):
    with (
        running_api(shared_world, FTI_DEPLOYMENT__API__MAX_IN_FLIGHT="3") as api,
        ExitStack() as stack,
    ):
        begun = [stack.enter_context(connect(api)) for _ in range(3)]
        for connection in begun:
            connection.sendall(request("/predict", USER)[:-5])
        statuses = [api.post("/predict", json={"user_id": 7}).status_code]
        time.sleep(1.1)
        statuses += [api.post("/predict", json={"user_id": 7}).status_code for _ in range(4)]
        status, answer = last_answer(until_closed(begun[0]))
    assert statuses[-4:] == [200] * 4
    assert status == 408
    assert "had not come when others needed its place" in answer["error"]


def test_an_idle_connection_is_closed_and_one_that_asks_is_kept(tight):
    with connect(tight) as silent, connect(tight) as asking:
        for _ in range(4):
            asking.sendall(request("/health"))
            assert answer_of(asking)[0] == 200
            time.sleep(0.6)
        silent.settimeout(0.1)
        assert silent.recv(1) == b""
        assert until_closed(asking) == b""


def test_connections_that_ask_nothing_make_room_for_those_that_do(tight):
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(tight)) for _ in range(20)]
        for connection in silent[::2]:
            with suppress(OSError):  # hung up on already
                connection.sendall(b"GET /health HTTP/1.1\r\n")
        for _ in range(3):
            with connect(tight) as connection:
                connection.sendall(request("/health"))
                assert answer_of(connection)[0] == 200
    text = tight.get("/metrics").text
    assert 'fti_http_requests_refused_total{reason="connections"}' in text


def test_when_all_connections_are_being_answered_another_is_refused(tight):
    half = request("/predict", USER)[:-5]
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(tight)).sendall(half)
        time.sleep(0.2)
        status, answer = last_answer(until_closed(stack.enter_context(connect(tight))))
    assert status == 503
    assert "As many connections as may be are being answered" in answer["error"]
    time.sleep(1.5)  # and those that trickled are gone


def test_requests_sent_far_ahead_are_not_all_taken(tight):
    with connect(tight) as connection:
        connection.sendall(request("/health") * 1000)
        received = until_closed(connection)
    assert 1 <= received.count(b"HTTP/1.1 200 OK") <= 5
    assert received.endswith(b'{"status":"alive"}')


def test_some_requests_sent_ahead_are_answered_in_order(tight):
    with connect(tight) as connection:
        connection.sendall(request("/health") + request("/predict", USER) + request("/ready"))
        bodies = []
        while len(bodies) < 3:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(1)
            head, _, _ = received.partition(b"\r\n\r\n")
            [line] = [x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")]
            bodies.append(connection.recv(int(line.split(b": ")[1]), socket.MSG_WAITALL))
    assert [body[:10] for body in bodies] == [b'{"status":', b'{"predicti', b'{"status":']


def test_a_body_in_very_many_small_chunks_is_refused(api):
    head = b"POST /feedback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + JSON
    status, error = refused(api, head + b"\r\n" + b"1\r\n \r\n" * 5_000)
    assert status == 400
    assert "in chunks of less than 64 bytes" in error


def test_a_body_in_some_small_chunks_is_answered(api):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + JSON
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in USER)
    with connect(api) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert last_answer(until_closed(connection))[0] == 200


def test_who_does_not_read_is_hung_up_on(tight):
    with connect(tight) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request("/docs/swagger-ui-bundle.js"))
        tight.until("/metrics", lambda answer: UNREAD in answer.text)
        with pytest.raises(ConnectionResetError):
            until_closed(connection)


def test_of_many_who_do_not_read_some_are_hung_up_on_at_once(shared_world):
    limit = {"FTI_DEPLOYMENT__API__HTTP__UNREAD_BYTES": "2000000"}
    with running_api(shared_world, **limit) as api, ExitStack() as stack:
        callers = [stack.enter_context(connect(api)) for _ in range(4)]
        for caller in callers:
            caller.sendall(request("/docs/swagger-ui-bundle.js"))
        api.until("/metrics", lambda answer: UNREAD in answer.text)
        whole = api.get("/docs/swagger-ui-bundle.js").content
        taken = []
        for caller in callers:
            with suppress(ConnectionResetError):
                taken.append(answer_of(caller)[2])
    assert 1 <= len(taken) < 4
    assert set(taken) == {whole}


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(api):
    head = b"POST /predict/batch HTTP/1.1\r\nHost: x\r\n%bContent-Length: 99999999\r\n\r\n" % JSON
    assert refused(api, head)[0] == 413
    status, error = refused(api, head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert status == 413
    assert "more than 16777216 bytes" in error


def test_a_refused_body_is_not_kept_waiting_for(api):
    body = b"x" * 3_000_000  # more than kernels hold between them
    sent = request("/no-such-path", body)
    assert refused(api, sent)[0] == 404


def test_a_half_closed_caller_is_answered(api):
    with connect(api) as connection:
        connection.sendall(request("/predict", USER))
        connection.shutdown(socket.SHUT_WR)
        status, answer = last_answer(until_closed(connection))
    assert (status, answer["model_version"]) == (200, "income-xgb-v1")


def test_a_half_closed_caller_gets_all_answers_that_it_asked_for(api):
    with connect(api) as connection:
        connection.sendall(request("/health") + request("/health") + request("/predict", USER)[:-3])
        connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection).count(b'{"status":"alive"}') == 2


def test_what_follows_a_whole_request_does_not_answer_it(api):
    with connect(api) as connection:
        connection.sendall(request("/predict", USER) + b"\x16\x03\x01 no http\r\n\r\n")
        status, answer = last_answer(until_closed(connection))
    assert (status, answer["model_version"]) == (200, "income-xgb-v1")


def test_what_is_no_http_is_answered_in_json_and_logged_once_a_second_with_the_peer(api):
    for _ in range(20):
        status, error = refused(api, b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert (status, error[:27]) == (400, "This is no HTTP/1.1 request")
    lines = [each for each in api.log_lines() if "no HTTP" in each["message"]]
    assert 1 <= len(lines) <= 4
    assert lines[0]["peer"] == "127.0.0.1"
    assert lines[0]["reason"]


@pytest.mark.parametrize("split", [False, True])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_read(api, split):
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    sent = request("/predict", USER, headers=wish)
    with connect(api) as connection:
        connection.sendall(sent[:-6] if split else sent)
        if split:
            time.sleep(0.05)
            connection.sendall(sent[-6:])
        status, answer = last_answer(until_closed(connection))
    assert (status, answer["model_version"]) == (200, "income-xgb-v1")

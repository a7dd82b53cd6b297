"""What reaches the caller when the head of an answer waits for its body: the same bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ClassVar

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from configs.http_config import HttpConfig
from serving.middleware.traffic import Traffic
from serving.process.connections import Connections
from serving.process.http_protocol import OneWriteProtocol
from serving.redis.busy_wait import BusyWait

PAUSE_S = 0.05


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    traffic = Traffic(100, 30)
    yield {"busy_wait": BusyWait(0), "connections": Connections(HttpConfig(), traffic, print)}


def app() -> FastAPI:
    served = FastAPI(lifespan=lifespan)

    @served.get("/whole")
    async def whole() -> dict[str, int]:
        return {"answer": 42}

    @served.head("/whole")
    async def head() -> Response:
        return Response(headers={"x-there": "yes"})

    @served.get("/nothing", status_code=204)
    async def nothing() -> None:
        return None

    @served.get("/parts")
    async def parts() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for piece in ("one ", "two ", "three"):
                yield piece
                await asyncio.sleep(PAUSE_S)

        return StreamingResponse(pieces())

    @served.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    return served


class Recording(OneWriteProtocol):
    """The protocol over a transport that notes what is written to the kernel at once."""

    written: ClassVar[list[bytes]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(_Noting(transport))


class _Noting:
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        Recording.written.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app(), http=Recording, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    Recording.written.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        yield connection


def until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        more = connection.recv(65536)
        assert more, received
        received += more
    return received


def ask(connection: socket.socket, line: str, extra: str = "") -> None:
    connection.sendall(f"{line} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())


def test_head_and_body_leave_in_one_write(port):
    with connected(port) as connection:
        for _ in range(2):  # the connection is kept
            ask(connection, "GET /whole")
            received = until(connection, b'{"answer":42}')
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [data.startswith(b"HTTP/1.1 ") for data in Recording.written] == [True, True]


@pytest.mark.parametrize(
    ("line", "status"), [("HEAD /whole", b"200 OK"), ("GET /nothing", b"204 No Content")]
)
def test_an_answer_without_a_body_arrives(port, line, status):
    with connected(port) as connection:
        ask(connection, line)
        assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)
        ask(connection, "GET /whole")
        assert until(connection, b'{"answer":42}').count(b"HTTP/1.1") == 1


def test_parts_arrive_as_they_come(port):
    with connected(port) as connection:
        ask(connection, "GET /parts")
        first = until(connection, b"one \r\n")
        assert b"two" not in first
        until(connection, b"0\r\n\r\n")


def test_a_caller_who_waits_to_be_told_so_may_send(port):
    with connected(port) as connection:
        ask(connection, "POST /echo", "Content-Length: 4\r\nExpect: 100-continue\r\n")
        assert until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert until(connection, b"body").startswith(b"HTTP/1.1 200 OK")


def test_pipelined_requests_are_answered_in_order(port):
    with connected(port) as connection:
        lines = b"".join(
            b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % p for p in (b"/nothing", b"/whole")
        )
        connection.sendall(lines)
        received = until(connection, b'{"answer":42}')
        assert received.index(b"204 No Content") < received.index(b"200 OK")


def test_what_is_no_http_is_told_so_and_hung_up_on(port):
    with connected(port) as connection:
        connection.sendall(b"what is this?\r\n\r\n")
        parts = iter(lambda: connection.recv(65536), b"")
        assert b"".join(parts).startswith(b"HTTP/1.1 400")

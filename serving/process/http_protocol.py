"""HTTP for uvicorn: answers in one write, and limits on what a connection may send or keep waiting.

uvicorn writes head and body of an answer one after the other, and each write is a call into the
kernel, a packet, and mostly a wake-up of the reader. Its parser has no limits of its own: heads
grow, half-sent requests wait, and requests sent ahead pile up, before any key is asked for.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.process.connections import Connections, Place
from serving.process.refusals import Refused, refusal_bytes
from serving.process.transports import LINGER_S, AnswerTransport

FREE_CHUNKS = 1000
"""So many chunks of a body may be as small as they like."""
_NO_HTTP = Refused(400, "This is no HTTP/1.1 request. Send one, without TLS.")
_NO_ROOM = Refused(503, "As many connections as may be are being answered. Try again in a second.")


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol within limits, over a transport that holds heads of answers.

    A request costs a few comparisons more; what is counted and timed is only what does not come
    whole in one piece.
    """

    transport: AnswerTransport  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pool: Connections = self.app_state["connections"]
        self._limits = self.pool.limits
        self._most_headers = self._limits.max_headers
        self._place: Place = self.pool.silent
        self.since_s = 0.0
        self._head_bytes = 0  # of a head that is not whole yet
        self._is_in_head = False
        self._is_split = False
        self._head_since_s: float | None = None
        self._body_bytes = 0
        self._body_since_s: float | None = None
        self._stays_open = True  # when the body is whole
        self._is_at_chunk_end = False
        self._chunks = 0
        self._chunk_bytes = 0
        self._is_deaf = False
        self.must_linger = False
        self._unread_since_s: float | None = None
        self._answering: RequestResponseCycle | None = None
        self._task: asyncio.Task[Any] | None = None

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, or refuse it."""
        self.app_state["busy_wait"].requests = self.tasks
        has_room = self.pool.make_room()
        super().connection_made(AnswerTransport(transport, self))  # type: ignore[arg-type]
        self._stay_in(self.pool.silent)
        if not has_room:
            self.transport.write(refusal_bytes(_NO_ROOM))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self.pool.forget(self)
        if self._task is not None:
            self.pool.traffic.unsent.pop(self._task, None)
        if self._answering is not None:
            self._answering.disconnected = True
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer what is whole when a caller sends no more, and only then hang up."""
        is_answering = self._answer_what_is_whole()
        self.must_linger = False  # nothing more can come
        return is_answering or None

    def shutdown(self) -> None:
        """Close when nothing is being answered, else after it."""
        self._stays_open = False
        super().shutdown()

    def abort(self) -> None:
        """Hang up at once; what was not sent is lost."""
        self.pool.forget(self)
        self.transport.reset()

    def unread_bytes(self) -> int:
        """Tell how much of its answers the caller has not taken."""
        return int(self.transport.get_write_buffer_size())

    def pause_writing(self) -> None:
        """Note that the caller does not read."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()
        self.pool.note_stalled(self)

    def resume_writing(self) -> None:
        """Note that the caller has read."""
        self._unread_since_s = None
        self.pool.stalled.pop(self, None)
        super().resume_writing()

    # --- what comes ---

    def data_received(self, data: bytes) -> None:
        """Take what a caller sends."""
        self.app_state["busy_wait"].note_request()
        self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, Refused):
                peer = self.client[0] if self.client else "unknown"
                self.pool.say_invalid(peer, str(cause or error))
                cause = _NO_HTTP
            self._refuse(cause)
            return
        if self._head_bytes or self._is_in_head or self.cycle.more_body:
            self._note_part(len(data))

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_in_head = True
        self._is_split = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; uvicorn's own, with a limit."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) >= self._most_headers:
            raise Refused(431, f"There are more than {self._most_headers} headers. Send fewer.")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer a request whose head is whole."""
        limits = self._limits
        if self._is_split or self._head_bytes > limits.max_header_bytes:
            self._check_head()
        if len(self.pipeline) > limits.max_pipelined:
            raise Refused(400, "Too many requests were sent ahead of their answers.")
        self._head_bytes = 0
        self._is_in_head = False
        self._head_since_s = None
        if self._place is not self.pool.asked:
            self._stay_in(self.pool.asked)
        super().on_headers_complete()
        self.headers = []  # what comes behind a body in chunks reaches nobody

    def on_chunk_header(self) -> None:
        """Note the size of a chunk; behind the last one come headers, or the end."""
        self._is_at_chunk_end = True
        self._chunks += 1
        least = self._limits.smallest_chunk_bytes
        if self._chunks > FREE_CHUNKS and self._chunk_bytes < least * self._chunks:
            raise Refused(400, f"The body comes in chunks of less than {least} bytes. Send larger.")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; no other protocol is ever changed to, so none is asked for."""
        if self._chunks:
            self._is_at_chunk_end = False
            self._chunk_bytes += len(body)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End a request's body."""
        if self._chunks:
            self._is_at_chunk_end = False
            self._chunks = self._chunk_bytes = 0
        if self._body_since_s is not None:
            self._body_since_s = None
            if self._task is not None:
                self.pool.traffic.unsent.pop(self._task, None)
            self.cycle.keep_alive = self._stays_open
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """End an answer, which may have had no body."""
        self.transport.flush()
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
        self.since_s = self.loop.time()
        self.app_state["busy_wait"].note_answer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])

    def _note_part(self, size: int) -> None:
        """Count and time what has come so far of something that is not whole."""
        now_s, limits = self.loop.time(), self._limits
        if self._is_deaf or self.transport.is_closing():
            self._head_bytes = 0
            return
        has_body = self.is_answering and self.cycle.more_body and not self._is_in_head
        if has_body and self._body_since_s is None:
            # Until its body is whole, the end of its answer is the end of the connection.
            self._body_since_s, self._body_bytes = now_s, 0
            self._stays_open, self.cycle.keep_alive = self.cycle.keep_alive, False
            if self._task is not None and self.cycle is self._answering:
                self.pool.traffic.unsent[self._task] = time.perf_counter()
        if has_body and not self._is_at_chunk_end:
            self._body_bytes += size
            self._head_bytes = 0
        elif not has_body:
            self._is_split = True
            if self._head_since_s is None:
                self._head_since_s = now_s
        if self._head_bytes > limits.max_head_bytes:
            self._refuse(self._too_long("The request's line and headers", limits.max_head_bytes))

    def _check_head(self) -> None:
        total, limits = len(self.url), self._limits
        for name, value in self.headers:
            size = len(name) + len(value)
            if size > limits.max_header_bytes:
                shown = name[:40].decode("latin-1")
                raise self._too_long(f"The header '{shown}'", limits.max_header_bytes)
            total += size
        if total > limits.max_head_bytes:
            raise self._too_long("The request's line and headers", limits.max_head_bytes)

    def _too_long(self, what: str, most: int) -> Refused:
        return Refused(431, f"{what} are longer than {most} bytes. Send less.")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Answer a request that would rather speak another protocol: the parser skips its body."""
        cycle = self.cycle
        lengths = (b"content-length", b"transfer-encoding")
        head = [b"%b: %b\r\n" % each for each in cycle.scope["headers"] if each[0] in lengths]
        cycle.keep_alive = False
        if not head:
            self._stop_listening()
        else:
            cycle.more_body = True
            self.parser = httptools.HttpRequestParser(_BodyOnly(self))
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(head))
            self.parser.feed_data(rest)

    # --- what ends ---

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _answer_what_is_whole(self) -> bool:
        """Take no more from this caller; tell whether something is being answered."""
        if not self.is_answering:
            return False
        if self.cycle.more_body:
            if self.cycle is self._answering:
                return False
            self.pipeline.popleft()  # the newest one, which stays a part
            assert self._answering is not None
            self.cycle = self.pipeline[0][0] if self.pipeline else self._answering
        self.cycle.keep_alive = self._stays_open = False
        self._stop_listening()
        return True

    def _stop_listening(self) -> None:
        self._is_deaf = self.must_linger = True
        self.url, self.headers = b"", []  # of what will not be answered: it may be large
        self.scope = None  # type: ignore[assignment]
        self.parser = _Deaf()  # type: ignore[assignment]
        self.transport.pause_reading()

    def _stay_in(self, place: Place) -> None:
        """Be among the others of a kind, as the newest one."""
        self._place.pop(self, None)
        self._place = place
        place[self] = None
        self.since_s = self.loop.time()

    def _refuse(self, refused: Refused) -> None:
        """Say why this connection ends, unless earlier requests on it are still to be answered."""
        self.pool.refuse(refused.reason)
        if self._answer_what_is_whole():
            return
        self._stop_listening()
        self._stay_in(self.pool.silent)
        if self.is_answering:  # and its body has been spoiled
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not (self.is_answering and self.cycle.response_started):
            self.transport.write(refusal_bytes(refused))
        self.transport.linger()

    def close_late(self, now_s: float) -> None:
        """Close the connection if it exceeds a limit of time."""
        limits = self._limits
        if self._unread_since_s is not None:
            allowed_s = limits.body_limit_s + self.unread_bytes() / limits.slowest_bytes_s
            if now_s - self._unread_since_s > allowed_s:
                self.pool.refuse("unread")
                self.abort()
        elif self.transport.is_closing():
            if now_s - self.since_s > limits.body_limit_s + LINGER_S:
                self.abort()
        elif self.is_answering:
            self._end_slow_body(now_s)
        elif self._head_since_s is not None:
            if now_s - self._head_since_s > limits.head_limit_s:
                late = f"The headers were not whole within {limits.head_limit_s:g} s."
                self._refuse(Refused(408, f"{late} Send them faster."))
        elif now_s - self.since_s > limits.keep_alive_s:
            self.abort() if self.unread_bytes() else self.transport.close()

    def _end_slow_body(self, now_s: float) -> None:
        since_s, limits = self._body_since_s, self._limits
        if since_s is None:
            return
        if self.flow.read_paused or self.cycle is not self._answering:  # nobody takes it now
            self._body_since_s = now_s
        elif now_s - since_s > limits.body_limit_s + self._body_bytes / limits.slowest_bytes_s:
            self.pool.traffic.cancel(
                self._task,
                f"The body came more slowly than {limits.slowest_bytes_s} bytes a second, for "
                f"{limits.body_limit_s:g} s. Send it faster.",
            )


class _Deaf:
    """A parser for a connection of which nothing more is taken."""

    def feed_data(self, data: bytes) -> None:
        pass

    def should_upgrade(self) -> bool:
        return False


class _BodyOnly:
    """Passes on what is read of a body, and nothing of the head before it."""

    def __init__(self, protocol: OneWriteProtocol) -> None:
        self.on_body = protocol.on_body
        self.on_chunk_header = protocol.on_chunk_header
        self.on_message_complete = protocol.on_message_complete

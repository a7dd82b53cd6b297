"""A worker's server: it listens when it may, and ends without failing a request."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from serving.middleware.traffic import Traffic
from serving.process.port_group import find_place, is_listening, is_shared

IDLE_LIMIT_S = 1.0
"""So long connections that are kept open may ask once more; their answer says that they close."""
LOOK_S = 0.01


class DrainingServer(uvicorn.Server):
    """A server that ends without failing a request.

    It takes the connections that wait in the queue of its socket before closing that; another
    process on the same port gets all later ones. Answers from now on close their connections.
    Connections that send nothing more are closed.

    Parameters
    ----------
    traffic
        Told that the worker ends.
    has_model
        Whether predictions can be answered. Where the port is shared, connections are taken from
        then on, or while nobody else takes them.
    """

    def __init__(
        self, config: uvicorn.Config, traffic: Traffic, has_model: Callable[[], bool]
    ) -> None:
        super().__init__(config)
        self.traffic = traffic
        self.has_model = has_model
        self._listeners: list[socket.socket] = []
        self._placing: asyncio.Task[None] | None = None

    @property
    def are_open(self) -> bool:
        """Whether connections are taken."""
        return bool(self.servers)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then take connections."""
        self._listeners = sockets or []
        await super().startup([])
        if any(map(is_listening, self._listeners)) or not all(map(is_shared, self._listeners)):
            await self.open()  # what waits must be answered
        if self._listeners and is_shared(self._listeners[0]):
            place = find_place(self, self.has_model, self._listeners[0])
            self._placing = asyncio.create_task(place)

    async def open(self) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        self.traffic.is_draining = False
        for listener in self._listeners:
            server = await loop.create_server(
                self._protocol, sock=listener.dup(), backlog=self.config.backlog
            )
            self.servers.append(server)

    async def close(self) -> None:
        """Take no more connections, once those that wait have been taken; open ones close soon."""
        self.traffic.is_draining = True
        for server in self.servers:
            server.close()
        self.servers.clear()
        for listener in self._listeners:
            waiting = _accept_all(listener)
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            await self._adopt(waiting)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: stop accepting, answer what is under way, let the app stop."""
        if self._placing is not None:
            self._placing.cancel()
        self.traffic.is_draining = True
        for server in self.servers:  # each has a descriptor of its own of a socket
            server.close()
        for listener in self._listeners:
            waiting = _accept_all(listener)
            listener.close()  # later ones reach other workers
            await self._adopt(waiting)
        deadline_s = time.monotonic() + IDLE_LIMIT_S
        while self.server_state.connections and time.monotonic() < deadline_s:
            await asyncio.sleep(LOOK_S)
        await super().shutdown(sockets)

    async def _adopt(self, connections: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for connection in connections:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        protocol = self.config.http_protocol_class
        return protocol(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """Take the connections that wait in the queue of a socket."""
    waiting = []
    listener.setblocking(False)
    with suppress(OSError):  # mostly: the queue is empty
        while True:
            waiting.append(listener.accept()[0])
    return waiting

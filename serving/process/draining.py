"""Graceful shutdown of a worker: every connection that it has accepted or queued is answered."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress

import uvicorn

from serving.middleware.traffic import Traffic

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
    """

    def __init__(self, config: uvicorn.Config, traffic: Traffic) -> None:
        super().__init__(config)
        self.traffic = traffic

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: stop accepting, answer what is under way, let the app stop."""
        self.traffic.is_draining = True
        # The event loop closes the sockets that it was given together with their servers.
        listeners = [each.dup() for each in sockets or []]
        for server in self.servers:
            server.close()
        for listener in listeners:
            await self._take_last(listener)
        deadline_s = time.monotonic() + IDLE_LIMIT_S
        while self.server_state.connections and time.monotonic() < deadline_s:
            await asyncio.sleep(LOOK_S)
        await super().shutdown(sockets)

    async def _take_last(self, listener: socket.socket) -> None:
        """Accept the queued connections and close the listener; later ones reach other workers."""
        waiting = []
        listener.setblocking(False)
        with suppress(OSError):  # mostly: the queue is empty
            while True:
                waiting.append(listener.accept()[0])
        listener.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        protocol = self.config.http_protocol_class
        return protocol(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

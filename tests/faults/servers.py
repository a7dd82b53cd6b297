"""Servers of a test's own, to be stopped, killed and filled."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from redis import Redis

from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.online_store import OnlineStore
from infrastructure import embedded
from infrastructure.servers import services


@dataclass(frozen=True)
class Servers:
    """PostgreSQL and Valkey that nobody else uses; programs reach them by their URLs."""

    embedded: Settings

    @property
    def settings(self) -> Settings:
        """Settings of a program that is told where the servers are, and starts none."""
        return load_settings(
            var_dir=self.embedded.var_dir,
            database_url=embedded.postgres_url(self.embedded),
            redis_url=embedded.redis_url(self.embedded),
        )

    def signal(self, name: str, number: int) -> None:
        """Send a signal to every process of a server."""
        running = services.find(name, self.embedded)
        assert running is not None
        os.killpg(os.getpgid(running.pid), number)

    def kill(self, name: str) -> None:
        """End a server without warning, and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        while services.find(name, self.embedded) is not None:
            time.sleep(0.01)

    def stop(self, name: str) -> None:
        """End a server as its keeper does: it closes its connections first."""
        services.stop(name, self.embedded)

    def start(self) -> None:
        """Start what does not run, where it was."""
        embedded.postgres_url(self.embedded)
        embedded.redis_url(self.embedded)

    def online(self, deadline_ms: float) -> OnlineStore:
        """Our own online store with a deadline."""
        return connect.online_store(self.settings, deadline_ms)


def leave_room_for(client: Redis, size: int) -> None:
    """Let a server take so many bytes more, once it has given back what it needed before."""
    client.config_set("maxmemory-policy", "noeviction")
    used, settled = 0, 0
    while settled < 3:
        before, used = used, client.info("memory")["used_memory"]
        settled = settled + 1 if abs(used - before) < 100_000 else 0
        time.sleep(0.2)
    client.config_set("maxmemory", used + size)

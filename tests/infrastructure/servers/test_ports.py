"""Ports that many want at once, and ports that others take in between."""

from __future__ import annotations

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from configs.settings import Settings, load_settings
from infrastructure import embedded
from infrastructure.errors import StartError
from infrastructure.servers import ports, services
from infrastructure.servers.launch import Service
from infrastructure.servers.services import Running

CLONES = 10
# As programs do that import for seconds before they listen.
SLOW = """
import http.server, os, socket, sys, time
time.sleep(0.3)
{bind}
server.serve_forever()
"""
BINDS = SLOW.format(
    bind="server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), "
    "http.server.SimpleHTTPRequestHandler)"
)
INHERITS = SLOW.format(
    bind="server = http.server.HTTPServer(('127.0.0.1', 0), "
    "http.server.SimpleHTTPRequestHandler, bind_and_activate=False); "
    "server.socket = socket.socket(fileno=int(sys.argv[1]))"
)
# Says which port it was given, and waits until somebody else listens there.
ROBBED = """
import http.server, pathlib, socket, sys, time
asked, port = pathlib.Path(sys.argv[2]), int(sys.argv[1])
asked.write_text(asked.read_text() + f"{port} ")
while not asked.with_name("stolen").exists(): time.sleep(0.01)
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def wanted() -> int:
    """A port that is free, as are some after it, most likely."""
    with closing(ports.take_any(listening=False)) as taken:
        return taken.number


def program(code: str, argument: str, wanted: int | None = None, *more: str) -> Service:
    command = (sys.executable, "-c", code, argument, *more)
    return Service("slow", command, wanted_port=wanted, health_path="/", start_limit_s=60)


@pytest.mark.parametrize(("code", "argument"), [(INHERITS, "{listener}"), (BINDS, "{port}")])
def test_ten_clones_that_start_at_once_get_a_port_each(
    tmp_path: Path, wanted: int, code: str, argument: str
) -> None:
    clones = [load_settings(var_dir=tmp_path / str(place) / "var") for place in range(CLONES)]

    def start(clone: Settings) -> Running:
        return services.ensure(program(code, argument, wanted), clone)

    try:
        with ThreadPoolExecutor(CLONES) as pool:
            running = list(pool.map(start, clones))
        assert len({each.port for each in running}) == CLONES
        assert all(ports.is_held_by(each.port, [each.pid]) for each in running)
    finally:
        for clone in clones:
            embedded.delete(clone)


def test_a_port_that_another_program_took_meanwhile_is_replaced(own: Settings) -> None:
    asked = own.var_dir.parent / "asked"
    asked.touch()
    thieves: list[socket.socket] = []

    def steal() -> None:
        while not (given := asked.read_text().split()):
            time.sleep(0.01)
        thieves.append(socket.create_server((ports.LOOPBACK, int(given[0]))))
        asked.with_name("stolen").touch()

    thread = threading.Thread(target=steal)
    thread.start()
    running = services.ensure(program(ROBBED, "{port}", None, str(asked)), own)
    thread.join()
    [thief] = thieves
    with thief:
        first, second = map(int, asked.read_text().split())
        assert thief.getsockname()[1] == first != second == running.port


def test_who_never_gets_its_port_is_told_so_in_bounded_time(own: Settings) -> None:
    code = "import time; time.sleep(0.05); raise SystemExit('bind: Address already in use')"
    service = Service("slow", (sys.executable, "-c", code, "{port}"), start_limit_s=0.5)
    with pytest.raises(StartError, match=r"slow lost its port .+ each time in 0\.5 s \(ports "):
        services.ensure(service, own)
    assert services.status(own)[0].state == "stopped"


def test_a_reserved_port_is_chosen_by_no_other_start(wanted: int) -> None:
    with closing(ports.take_from(wanted, listening=False)) as first:
        assert ports.take(first.number, listening=True) is None
        with closing(ports.take_from(first.number, listening=True)) as second:
            assert second.number > first.number
    with closing(ports.take_from(first.number, listening=True)) as again:
        assert again.number == first.number


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:8801"),
        ("0.0.0.0", "http://localhost:8801"),
        ("::", "http://localhost:8801"),
        ("::1", "http://[::1]:8801"),
        ("10.0.0.7", "http://10.0.0.7:8801"),
    ],
)
def test_a_url_can_be_opened_whatever_the_host(host: str, url: str) -> None:
    assert ports.http_url(host, 8801) == url

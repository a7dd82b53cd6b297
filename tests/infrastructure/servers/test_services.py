"""Background services, with small web servers in the place of real programs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from configs.settings import ROOT, Settings, load_settings
from infrastructure.errors import StartError
from infrastructure.servers import ports, processes, records, services
from infrastructure.servers.launch import Service
from infrastructure.servers.processes import Process

WEB = Service("web", (sys.executable, "-m", "http.server", "{port}"), health_path="/")
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print("ready", flush=True)
time.sleep(60)
"""
ENSURE = """
import sys
from pathlib import Path
from configs.settings import load_settings
from infrastructure.servers import services
from tests.infrastructure.servers.test_services import WEB
print(services.ensure(WEB, load_settings(var_dir=Path(sys.argv[1]))).pid)
"""


def is_alive(pid: int) -> bool:
    process = Process.of(pid)
    return process is not None and process.is_alive()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)


def test_a_service_that_runs_is_not_started_again(own: Settings) -> None:
    first = services.ensure(WEB, own)
    second = services.ensure(WEB, own)
    assert first.started
    assert second == replace(first, started=False)
    assert services.find("web", own) == second


def test_a_service_survives_the_process_that_started_it(own: Settings) -> None:
    pid = start_elsewhere(own)
    assert is_alive(pid)
    assert services.ensure(WEB, own).pid == pid


def test_processes_that_start_a_service_at_the_same_time_get_one(own: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        pids = set(pool.map(start_elsewhere, [own] * 4))
    assert len(pids) == 1


def test_a_service_is_stopped_and_then_starts_on_the_same_port(own: Settings) -> None:
    first = services.ensure(WEB, own)
    assert [each.name for each in services.stop_all(own)] == ["web"]
    assert not is_alive(first.pid)
    assert services.stop("web", own) is None
    assert services.status(own)[0].state == "stopped"
    assert services.ensure(WEB, own).port == first.port


def test_services_stop_in_the_order_asked_for(own: Settings) -> None:
    for name in ("base", "web", "middle"):
        services.ensure(replace(WEB, name=name), own)
    stopped = [each.name for each in services.stop_all(own, last=("middle", "base"))]
    assert stopped == ["web", "middle", "base"]


def test_a_killed_service_is_started_again(own: Settings) -> None:
    first = services.ensure(WEB, own)
    kill(first.pid)
    second = services.ensure(WEB, own)
    assert second.started
    assert second.pid != first.pid


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(own: Settings) -> None:
    services.ensure(WEB, own)
    services.stop("web", own)
    record = records.read(own.var_dir, "web")
    assert record is not None
    ours = Process(os.getpid(), started=1)
    records.write(replace(record, process=ours, is_ready=True))
    assert services.find("web", own) is None
    assert services.stop("web", own) is None
    assert services.ensure(WEB, own).started


def test_a_service_whose_starter_was_killed_before_it_was_ready_is_started_anew(
    own: Settings,
) -> None:
    half_started = services.ensure(WEB, own)
    record = records.read(own.var_dir, "web")
    assert record is not None
    records.write(replace(record, is_ready=False))
    assert services.status(own)[0].state == "starting"
    assert services.ensure(WEB, own).pid != half_started.pid
    assert not is_alive(half_started.pid)


def test_a_record_that_cannot_be_read_counts_as_none(own: Settings) -> None:
    running = services.ensure(WEB, own)
    path = own.var_dir / "run" / "web.json"
    text = path.read_text()
    path.write_text(text[:20])
    assert services.status(own) == []
    path.write_text(text)
    assert services.ensure(WEB, own).pid == running.pid


def test_a_copy_of_var_has_services_of_its_own(own: Settings, tmp_path: Path) -> None:
    running = services.ensure(WEB, own)
    shutil.copytree(own.var_dir, tmp_path / "copy")
    copy = load_settings(var_dir=tmp_path / "copy")
    assert list(services.stop_all(copy)) == []
    assert is_alive(running.pid)


def test_var_may_be_moved_while_a_service_runs(own: Settings, tmp_path: Path) -> None:
    running = services.ensure(WEB, own)
    moved = load_settings(var_dir=tmp_path / "moved")
    own.var_dir.rename(moved.var_dir)
    assert services.ensure(WEB, moved).pid == running.pid
    assert [each.pid for each in services.stop_all(moved)] == [running.pid]


def test_another_environment_means_a_restart(own: Settings) -> None:
    first = services.ensure(WEB, own)
    second = services.ensure(replace(WEB, environment={"COLOUR": "blue"}), own)
    assert second.started
    assert not is_alive(first.pid)


def test_a_taken_port_is_named_with_its_holder_and_the_next_one_is_used(
    own: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        running = services.ensure(replace(WEB, wanted_port=taken), own)
    assert running.port > taken
    message = capsys.readouterr().err
    assert message.startswith(f"Port {taken} is held by ")
    assert f"(pid {os.getpid()})" in message
    assert message.endswith(f"web uses {running.port}.\n")


def test_a_service_that_dies_shows_the_end_of_its_log(own: Settings) -> None:
    code = "print('old', *range(30), sep='\\n'); print('the reason'); raise SystemExit(3)"
    service = replace(WEB, command=(sys.executable, "-c", code))
    with pytest.raises(StartError) as caught:
        services.ensure(service, own)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("web ended with code 3 before it was ready.")
    assert lines[-1] == "  | the reason"
    assert len(lines) < 20


def test_a_service_that_never_answers_is_stopped(own: Settings) -> None:
    service = replace(WEB, command=("sleep", "60"), start_limit_s=0.3)
    with pytest.raises(StartError, match=r"was not ready after 0\.3 s and was stopped"):
        services.ensure(service, own)
    assert services.status(own)[0].state == "stopped"


def test_a_program_that_does_not_exist_is_one_line(own: Settings) -> None:
    with pytest.raises(StartError, match=r"Cannot start web: .*no-such-program"):
        services.ensure(replace(WEB, command=("no-such-program",)), own)


def test_a_program_on_the_same_port_does_not_count_as_ours(own: Settings) -> None:
    other = services.ensure(replace(WEB, name="other"), own)
    deaf = replace(
        WEB,
        command=("sleep", "60"),
        is_ready=lambda _: ports.answers(other.port),
        start_limit_s=0.3,
    )
    with pytest.raises(StartError, match="was not ready"):
        services.ensure(deaf, own)


def test_what_does_not_obey_is_killed_with_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        leader.stdout.readline()
        process = Process.of(leader.pid)
        assert process is not None
        assert len(process.family()) == 2
        assert not processes.end(process.family, signal.SIGTERM, patience_s=0.3)
        assert process.family() == set()


def test_children_of_a_killed_service_are_found() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        leader.stdout.readline()
        process = Process.of(leader.pid)
        assert process is not None
        leader.kill()
        leader.wait()
        assert len(process.family()) == 1
        processes.end(process.family, signal.SIGKILL)
        assert process.family() == set()


def test_a_process_is_found_by_its_folder_and_program(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as sleeper:
        find = partial(processes.find_in, tmp_path, "sleep")
        assert find() == {sleeper.pid}
        assert processes.find_in(tmp_path, "other") == set()
        assert processes.end(find, signal.SIGTERM)


def start_elsewhere(settings: Settings) -> int:
    """Start the service in another process that then ends."""
    command = [sys.executable, "-c", ENSURE, str(settings.var_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)

"""PostgreSQL and Valkey as they really are; as root, under a folder that others cannot enter."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from configs.settings import ROOT, Settings, load_settings
from infrastructure import embedded
from infrastructure.servers import ports, services
from infrastructure.servers.homes import NOBODY
from infrastructure.servers.processes import Process, find_in

IS_ROOT = os.geteuid() == 0
URL_ELSEWHERE = """
import sys
from pathlib import Path
from configs.settings import load_settings
from infrastructure import embedded
print(embedded.postgres_url(load_settings(var_dir=Path(sys.argv[1]))))
"""


def execute(settings: Settings, statement: str) -> object:
    """Run a statement; give the first value that it answers, if it does."""
    with psycopg.connect(embedded.postgres_url(settings)) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def online(settings: Settings) -> redis.Redis:
    return redis.Redis.from_url(embedded.redis_url(settings), decode_responses=True)


def pid_of(name: str, settings: Settings) -> int:
    running = services.find(name, settings)
    assert running is not None
    return running.pid


def kill(name: str, settings: Settings) -> int:
    pid = pid_of(name, settings)
    process = Process.of(pid)
    os.kill(pid, signal.SIGKILL)
    while process and process.is_alive():
        time.sleep(0.01)
    return pid


def test_a_server_that_runs_is_not_started_again(settings: Settings) -> None:
    before = pid_of("postgres", settings), pid_of("valkey", settings)
    urls = embedded.postgres_url(settings), embedded.redis_url(settings)
    assert urls == (embedded.postgres_url(settings), embedded.redis_url(settings))
    assert before == (pid_of("postgres", settings), pid_of("valkey", settings))


def test_finding_a_server_that_runs_takes_milliseconds(settings: Settings) -> None:
    begin = time.perf_counter()
    for _ in range(10):
        embedded.postgres_url(settings)
    assert (time.perf_counter() - begin) / 10 < 0.02


def test_servers_listen_on_this_machine_only_and_ask_for_the_password(settings: Settings) -> None:
    url = embedded.postgres_url(settings)
    password = url.split("@")[0].rpartition(":")[2]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(password, "guessed"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=urlsplit(embedded.redis_url(settings)).port).ping()
    assert execute(settings, "SHOW listen_addresses") == ports.LOOPBACK


def test_data_survives_down_and_ports_stay(own: Settings) -> None:
    execute(own, "CREATE TABLE kept AS SELECT 42 AS answer")
    online(own).set("kept", "42")
    urls = embedded.postgres_url(own), embedded.redis_url(own)
    assert [each.name for each in embedded.down(own)] == ["valkey", "postgres"]
    assert execute(own, "SELECT answer FROM kept") == 42
    assert online(own).get("kept") == "42"
    assert urls == (embedded.postgres_url(own), embedded.redis_url(own))


def test_killed_servers_come_back_with_what_was_committed(own: Settings) -> None:
    execute(own, "CREATE TABLE kept AS SELECT 42 AS answer")
    client = online(own)
    client.set("kept", "42")
    client.execute_command("WAITAOF", 1, 0, 5000)
    dead = kill("postgres", own), kill("valkey", own)
    assert execute(own, "SELECT answer FROM kept") == 42
    assert online(own).get("kept") == "42"
    assert pid_of("postgres", own) not in dead
    assert pid_of("valkey", own) not in dead


def test_a_backend_that_outlives_a_killed_server_is_no_obstacle(own: Settings) -> None:
    with psycopg.connect(embedded.postgres_url(own)) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        kill("postgres", own)
        assert execute(own, "SELECT 1") == 1
        process = Process.of(backend)
        assert process is None or not process.is_alive()


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(own: Settings) -> None:
    embedded.postgres_url(own)
    list(embedded.down(own))
    pid_file = (own.var_dir / "postgres").resolve() / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{pid_file.parent}\n1\n5432\n\n127.0.0.1\n1 1\nready\n")
    assert execute(own, "SELECT 1") == 1


def test_servers_whose_records_were_lost_are_replaced(own: Settings) -> None:
    execute(own, "CREATE TABLE kept AS SELECT 42 AS answer")
    before = pid_of("postgres", own)
    shutil.rmtree(own.var_dir / "run")
    assert execute(own, "SELECT answer FROM kept") == 42
    process = Process.of(before)
    assert process is None or not process.is_alive()


def test_processes_that_ask_at_the_same_time_get_one_server(own: Settings) -> None:
    with ThreadPoolExecutor(3) as pool:
        urls = set(pool.map(url_elsewhere, [own] * 3))
    assert len(urls) == 1
    data = (own.var_dir / "postgres").resolve() / "data"
    postmasters = {pid for pid in find_in(data, "postgres") if is_leader(pid)}
    assert postmasters == {pid_of("postgres", own)}


def test_two_checkouts_do_not_meet(own: Settings, settings: Settings) -> None:
    execute(own, "CREATE TABLE mine AS SELECT 1")
    assert execute(settings, "SELECT to_regclass('mine')") is None
    list(embedded.down(own))
    assert execute(settings, "SELECT 1") == 1


def test_a_copied_checkout_starts_servers_of_its_own(own: Settings, tmp_path: Path) -> None:
    execute(own, "CREATE TABLE kept AS SELECT 42 AS answer")
    shutil.copytree(own.var_dir, tmp_path / "copy", symlinks=True)
    copy = load_settings(var_dir=tmp_path / "copy")
    try:
        assert execute(copy, "SELECT 1") == 1
        assert embedded.postgres_url(copy) != embedded.postgres_url(own)
        assert execute(own, "SELECT answer FROM kept") == 42
    finally:
        embedded.delete(copy)
    assert execute(own, "SELECT answer FROM kept") == 42


def test_down_leaves_no_process(own: Settings) -> None:
    embedded.postgres_url(own)
    embedded.redis_url(own)
    homes = [(own.var_dir / name).resolve() for name in ("postgres", "valkey")]
    list(embedded.down(own))
    assert find_in(homes[0] / "data", "postgres") == set()
    assert find_in(homes[1], "valkey-server") == set()
    assert list(embedded.down(own)) == []


def test_delete_leaves_no_files(own: Settings) -> None:
    embedded.postgres_url(own)
    embedded.redis_url(own)
    homes = [(own.var_dir / name).resolve() for name in ("postgres", "valkey")]
    embedded.delete(own)
    assert not any(home.exists() for home in homes)
    assert list(own.var_dir.iterdir()) == []


def test_a_url_replaces_each_server(tmp_path: Path, database_url: str) -> None:
    elsewhere = load_settings(
        var_dir=tmp_path / "var",
        database_url=database_url,
        redis_url="redis://cache/0",
        mlflow_tracking_uri="http://mlflow",
    )
    assert embedded.postgres_url(elsewhere) == database_url
    assert embedded.redis_url(elsewhere) == "redis://cache/0"
    assert embedded.mlflow_url(elsewhere) == "http://mlflow"
    assert [running for _, running in embedded.up(elsewhere)] == [None, None, None]
    assert {each.state for each in embedded.status(elsewhere)} == {"elsewhere"}
    assert not (tmp_path / "var").exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root runs servers under another account")
def test_as_root_servers_run_without_rights_and_reach_their_files(own: Settings) -> None:
    execute(own, "SELECT 1")
    online(own).ping()
    for name in ("postgres", "valkey"):
        assert (own.var_dir / name).resolve().is_relative_to("/var/lib")
        assert Path(f"/proc/{pid_of(name, own)}").stat().st_uid == NOBODY


@pytest.mark.skipif(not IS_ROOT, reason="only root runs servers under another account")
def test_data_moves_out_of_a_folder_that_was_closed_to_others() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as checkout:
        os.chmod(checkout, 0o755)
        settings = load_settings(var_dir=Path(checkout, "var"))
        try:
            execute(settings, "CREATE TABLE kept AS SELECT 42 AS answer")
            assert not (settings.var_dir / "postgres").is_symlink()
            list(embedded.down(settings))
            os.chmod(checkout, 0o700)
            assert execute(settings, "SELECT answer FROM kept") == 42
            assert (settings.var_dir / "postgres").is_symlink()
        finally:
            embedded.delete(settings)


def url_elsewhere(settings: Settings) -> str:
    """Ask for the URL in another process."""
    command = [sys.executable, "-c", URL_ELSEWHERE, str(settings.var_dir)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def is_leader(pid: int) -> bool:
    """Tell whether a PostgreSQL process is the server and not one of its children."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return Path(f"/proc/{parent}/comm").read_text().strip() != "postgres"

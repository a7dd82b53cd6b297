"""Where servers' files and programs go when root starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrastructure.errors import HomeError
from infrastructure.servers.homes import NOBODY, Home, delete_home, open_home, privileges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends servers a home")


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    """A folder for homes under one that only root may enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    yield closed / "var"
    delete_home(closed / "var", "store")


def test_a_home_is_the_same_one_each_time(var: Path) -> None:
    first, second = open_home(var, "store"), open_home(var, "store")
    assert first == second
    assert first.account == NOBODY
    assert can_read(first, first.folder)


def test_a_lost_folder_is_named_rather_than_replaced_by_an_empty_one(var: Path) -> None:
    lost = open_home(var, "store").folder
    shutil.rmtree(lost.parent)
    with pytest.raises(HomeError, match=f"leads to {lost}, which is gone"):
        open_home(var, "store")


def test_a_moved_var_keeps_its_home_and_a_copied_one_gets_its_own(var: Path) -> None:
    home = open_home(var, "store")
    moved = var.rename(var.with_name("moved"))
    assert open_home(moved, "store") == home
    shutil.copytree(moved, var, symlinks=True)
    assert open_home(var, "store") != home
    delete_home(moved, "store")
    assert not home.folder.exists()


def test_a_link_of_the_users_own_is_followed_and_only_its_target_deleted(tmp_path: Path) -> None:
    disk = Path(f"/var/tmp/{tmp_path.name}-{os.getpid()}")
    (disk / "store").mkdir(parents=True)
    try:
        place = tmp_path / "store"
        place.symlink_to(disk / "store")
        assert open_home(tmp_path, "store").folder == disk / "store"
        delete_home(tmp_path, "store")
        assert list(disk.iterdir()) == []
    finally:
        shutil.rmtree(disk)


def test_programs_that_the_account_cannot_reach_are_copied_once(var: Path) -> None:
    installed = var.parent / "site"
    program = installed / "package" / "bin" / "hello"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o700)
    home = open_home(var, "store")
    copy = home.reachable(installed, ["package/bin"], "1") / "package" / "bin" / "hello"
    done = subprocess.run([copy], capture_output=True, check=True, **privileges(home.account))
    assert done.stdout == b"hello\n"
    program.unlink()
    assert home.reachable(installed, ["package/bin"], "1") == home.folder / "programs"
    assert copy.exists()
    home.reachable(installed, ["package/bin"], "2")
    assert not copy.exists()


def test_a_password_is_made_once_and_only_the_account_may_read_it(var: Path) -> None:
    home = open_home(var, "store")
    assert home.secret() == home.secret()
    found = (home.folder / "password").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (NOBODY, 0o600)


def test_the_files_of_another_user_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_home(tmp_path, "store")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HomeError, match="belongs to user 65534, we are user 1000"):
        open_home(tmp_path, "store")
    monkeypatch.undo()
    delete_home(tmp_path, "store")


def can_read(home: Home, path: Path) -> bool:
    done = subprocess.run(["test", "-r", path], check=False, **privileges(home.account))
    return done.returncode == 0

"""Where a server keeps its files and which account runs it.

PostgreSQL refuses to run as root. Started by root, servers run as an account without rights, and
that account must reach their files: in a checkout under a folder closed to others, the files move
to ``/var/lib`` and ``var/NAME`` becomes a link to them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.files import write_whole
from infrastructure.errors import HomeError

ROOT_USER = 0
NOBODY = 65534
OUTSIDE = Path("/var/lib")


@dataclass(frozen=True)
class Home:
    """A server's folder, and the account that owns it and runs the server (None: ours)."""

    folder: Path
    account: int | None

    def secret(self, name: str = "password") -> str:
        """Read a password of the server; the first call makes one."""
        path = self.folder / name
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(16), rights=0o600, owner=self.account)
        return path.read_text()

    def give(self, path: Path) -> None:
        """Make a file or a folder with all that is in it the account's own."""
        if self.account is None:
            return
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                os.chown(Path(folder, name), self.account, -1, follow_symlinks=False)
        os.chown(path, self.account, -1)

    def reachable(self, root: Path, parts: Sequence[str], version: str) -> Path:
        """Give a folder whose ``parts`` the account can read: ``root`` itself, else a copy."""
        if self.account is None or _can_enter(root / parts[0] / "program", self.account):
            return root
        copy, stamp = self.folder / "programs", self.folder / "programs" / version
        if not stamp.exists():
            shutil.rmtree(copy, ignore_errors=True)
            for part in parts:
                shutil.copytree(root / part, copy / part, symlinks=True)
            stamp.touch()
            self.give(copy)
        return copy


def privileges(account: int | None) -> dict[str, Any]:
    """Give what ``subprocess`` needs to run a program as an account (None: ours)."""
    return {} if account is None else {"user": account, "group": NOBODY, "extra_groups": ()}


def open_home(var_dir: Path, name: str) -> Home:
    """Give the home of a server, made by the first call.

    Raises
    ------
    HomeError
        If the files belong to another account and we are not root, or are gone.
    """
    var_dir.mkdir(parents=True, exist_ok=True)
    place = var_dir / name
    return _own_home(place) if os.geteuid() != ROOT_USER else _lent_home(place)


def delete_home(var_dir: Path, name: str) -> None:
    """Delete a server's files, also when they lie outside ``var_dir``."""
    place = var_dir / name
    if not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
        return
    if _is_ours(place):
        files = place.resolve()
        shutil.rmtree(files.parent if _owner_file(place).exists() else files, ignore_errors=True)
    place.unlink()


def is_same_place(recorded: str, here: Path) -> bool:
    """Tell whether ``here`` is the folder recorded, perhaps moved since; a copy of it is not."""
    return not os.path.exists(recorded) or os.path.samefile(recorded, here)


def _own_home(place: Path) -> Home:
    place.mkdir(mode=0o700, exist_ok=True)
    owner = place.stat().st_uid
    if owner != os.geteuid():
        raise HomeError(
            f"{place} belongs to user {owner}, we are user {os.geteuid()}. "
            f"Run as that user or as root, or delete it with 'make clean' as root."
        )
    return Home(place.resolve(), None)


def _lent_home(place: Path) -> Home:
    """Open the home of a server that we, as root, start under another account."""
    if place.is_symlink() and not place.exists():
        raise HomeError(
            f"{place} leads to {place.readlink()}, which is gone. "
            f"Bring it back, or delete the link to start without its data."
        )
    if place.is_symlink() and not _is_ours(place):
        place.unlink()
    account = (place.stat().st_uid if place.exists() else ROOT_USER) or NOBODY
    if not _can_enter(place.resolve(), account):
        _move_outside(place, account)
    home = Home(place.resolve(), account)
    home.folder.mkdir(mode=0o700, exist_ok=True)
    if home.folder.stat().st_uid != account:
        home.give(home.folder)
    if _owner_file(place).exists():
        _owner_file(place).write_text(str(place.parent))  # the checkout may have been moved
    return home


def _move_outside(place: Path, account: int) -> None:
    """Move a server's folder to where the account can enter, and leave a link."""
    outside = Path(tempfile.mkdtemp(prefix=f"fti-{place.name}-", dir=OUTSIDE))
    if place.exists():
        shutil.move(place, outside / place.name)
    else:
        (outside / place.name).mkdir(mode=0o700)
    place.symlink_to(outside / place.name)
    _owner_file(place).touch()
    os.chown(outside, account, -1)


def _owner_file(link: Path) -> Path:
    """Name the file, beside a folder outside, that says which ``var`` it belongs to."""
    return link.resolve().parent / "owner"


def _is_ours(link: Path) -> bool:
    """Tell our own folder outside from that of a checkout which this one was copied from."""
    owner = _owner_file(link)
    return not owner.exists() or is_same_place(owner.read_text(), link.parent)


def _can_enter(path: Path, account: int) -> bool:
    """Tell whether an account may pass through all folders above a path."""
    for folder in path.parents:
        found = folder.stat()
        bit = stat.S_IXUSR if found.st_uid == account else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True

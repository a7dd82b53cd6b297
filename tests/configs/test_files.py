"""A file that is written in one step."""

from __future__ import annotations

import os
import stat

import pytest

from configs.files import write_whole


def test_a_file_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "folder" / "a.json"
    write_whole(path, "one")
    write_whole(path, b"two", is_lasting=True)
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_rights_hold_from_the_beginning(tmp_path):
    write_whole(tmp_path / "password", "secret", rights=0o600, owner=os.geteuid())
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "one")
    with pytest.raises(TypeError):
        write_whole(path, 2)  # type: ignore[arg-type]
    assert path.read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1

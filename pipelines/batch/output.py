"""Where predictions go: written aside, made visible at once, with a manifest that readers trust.

::

    OUTPUT/.date=2026-01-31.staging/      while it is written
        plan.json                         what is being done
        receipts/chunk-00000.json         one for each finished chunk
        data/part-00000-1f2e3d4c.parquet
    OUTPUT/date=2026-01-31/               complete: the folder data/ under its own name
        part-00000-1f2e3d4c.parquet …
        _manifest.json

On this machine the folder gets its name by one rename, or one exchange when there was an output of
that day. S3 has no rename: there parts lie in their place from the start, the manifest, written
last, is the commit, and what it does not name is not part of the output.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.batch.errors import OutputUnusable
from pipelines.batch.folders import Folder, replace_folder
from pipelines.batch.manifest import FORMAT, MANIFEST, OutputFile
from pipelines.batch.plan import Plan

PLAN, RECEIPTS, DATA = "plan.json", "receipts", "data"
STAGING = ".staging"


class Output:
    """The output of one day.

    Parameters
    ----------
    root
        The folder that was named.
    partition
        ``date=YYYY-MM-DD``.
    """

    def __init__(self, root: Folder, partition: str) -> None:
        self.root = root
        self.partition = partition
        self.final = root.child(partition)
        self.staging = root.child(f".{partition}{STAGING}")
        self.receipts = self.staging.child(RECEIPTS)
        self.data = self.staging.child(DATA) if root.is_local else self.final

    @classmethod
    def unfinished_partitions(cls, root: Folder) -> list[str]:
        """Partitions that are being written, or were when a run ended early."""
        marks = (name for name in root.names() if name.endswith(STAGING))
        return [name.removeprefix(".").removesuffix(STAGING) for name in marks]

    def plan(self) -> Plan | None:
        """What is being done; None when nothing is."""
        if PLAN not in self.staging.names():
            return None
        return Plan.from_json(self.staging.read(PLAN))

    def begin(self, plan: Plan) -> None:
        """Keep the plan: from now on the run can be resumed."""
        self.staging.write(PLAN, plan.to_json())

    def add(self, chunk: int, content: Any, **facts: Any) -> OutputFile:
        """Write the file of a chunk, then its receipt; a second attempt gets a file of its own."""
        digest = hashlib.sha256(content).hexdigest()
        name = f"part-{chunk:05d}-{secrets.token_hex(4)}.parquet"
        receipt = OutputFile(chunk=chunk, file=name, size=len(content), sha256=digest, **facts)
        self.data.write(name, content)
        self.receipts.write(_receipt_name(chunk), receipt.to_json())
        return receipt

    def count(self) -> int:
        """How many chunks are finished, at a glance."""
        return len(self.receipts.names())

    def finished_files(self, plan: Plan, *, is_checked: bool = False) -> dict[int, OutputFile]:
        """Receipts of finished chunks by index, those whose file is there.

        Parameters
        ----------
        is_checked
            Whether the file must have the bytes that were written, too: each is read.
        """
        there, files = set(self.receipts.names()), set(self.data.names())
        found = {}
        for chunk in plan.chunks:
            if _receipt_name(chunk.index) in there:
                receipt = OutputFile.from_json(self.receipts.read(_receipt_name(chunk.index)))
                if receipt.file in files and (
                    not is_checked or _is_sound(self.data, receipt.file, receipt.sha256)
                ):
                    found[chunk.index] = receipt
        return found

    def publish(self, plan: Plan, manifest: bytes) -> None:
        """Make the output visible, whole; what it replaces is gone.

        Raises
        ------
        OutputUnusable
            If another run has begun to write the same output.
        """
        current = self.plan()
        if current is None or current.id != plan.id:
            raise OutputUnusable(
                f"Another run writes {self.final.shown}. Nothing of this one was published."
            )
        if self.root.is_local:
            _drop(self.data, _names_in(manifest))
            self.data.write(MANIFEST, manifest)
            replace_folder(Path(self.data.path), Path(self.final.path))
        else:
            self.final.write(MANIFEST, manifest)
        self.tidy()

    def is_published(self, plan: Plan) -> bool:
        """Whether a run ended after its output had become visible."""
        if MANIFEST not in self.final.names():
            return False
        return bool(json.loads(self.final.read(MANIFEST))["run"] == plan.id)

    def tidy(self) -> None:
        """Remove what is left of a run whose output is visible."""
        if not self.root.is_local and MANIFEST in self.final.names():
            _drop(self.final, _names_in(self.final.read(MANIFEST)))
        self.staging.remove()

    def discard(self) -> None:
        """Remove what was written aside."""
        if not self.root.is_local and (plan := self.plan()) is not None:
            for receipt in self.finished_files(plan).values():
                self.final.delete(receipt.file)
        self.staging.remove()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other runs on this machine away.

        Raises
        ------
        OutputUnusable
            If one is writing the same output.
        """
        if not self.root.is_local:
            yield
            return
        import fcntl

        from pipelines.batch.folders import translate_errors

        with translate_errors(self.root.shown):
            Path(self.root.path).mkdir(parents=True, exist_ok=True)
            held = os.open(self.root.path, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise OutputUnusable(
                f"Another run is writing to {self.root.shown}. Wait, or name another --output."
            ) from error
        finally:
            os.close(held)
            with suppress(OSError):
                Path(self.root.path).rmdir()  # made by this run, if it is empty


def verified(place: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Addresses of the files of a published output, each checked against the manifest.

    Parameters
    ----------
    place
        ``…/date=YYYY-MM-DD``.

    Raises
    ------
    OutputUnusable
        If there is no manifest, or a file is missing or altered.
    """
    folder = Folder.of(place, environment)
    manifest = json.loads(folder.read(MANIFEST))
    if manifest["format"] != FORMAT:
        raise OutputUnusable(f"{place} has format {manifest['format']}; this code reads {FORMAT}.")
    for file in manifest["files"]:
        if not _is_sound(folder, file["name"], file["sha256"]):
            raise OutputUnusable(f"{place}/{file['name']} is missing or altered. Run again.")
    return [f"{folder.shown}/{file['name']}" for file in manifest["files"]]


def _names_in(manifest: bytes) -> set[str]:
    """Names of the files of an output, and of its manifest."""
    return {MANIFEST, *(file["name"] for file in json.loads(manifest)["files"])}


def _drop(folder: Folder, keep: set[str]) -> None:
    for name in folder.names():
        if name not in keep:
            folder.delete(name)


def _receipt_name(chunk: int) -> str:
    return f"chunk-{chunk:05d}.json"


def _is_sound(folder: Folder, name: str, sha256: str) -> bool:
    with suppress(OutputUnusable):
        return hashlib.sha256(folder.read(name)).hexdigest() == sha256
    return False

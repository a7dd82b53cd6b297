"""What is staged on this host: files that its agent writes and all its workers read.

==============  ==============================================================================
current.json    the deployment to serve, under a checksum of its own; replaced as a whole, and
                only once all its models lie checked and tried on this disk
agent.json      when the record of deployments was last read, and what keeps it from being
                followed, if anything does
restage         is there when a worker could not load what is staged: the agent checks it again
==============  ==============================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from configs.files import write_whole
from models.deployment.record import BUCKETS, Deployment
from serving.errors import DeploymentUnusable


class Stamp(NamedTuple):
    """Tells one version of a file from the next."""

    inode: int
    changed_ns: int
    size: int


@dataclass(frozen=True)
class CurrentFile:
    """The deployment to serve, also when everything else is gone."""

    path: Path

    def stamp(self) -> Stamp | None:
        """Tell versions of the file apart, without reading it; None when there is none."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)

    def read(self) -> Deployment:
        """Give the deployment.

        Raises
        ------
        DeploymentUnusable
            If the file is not what was written, or no such deployment can be served.
        """
        try:
            stored = json.loads(self.path.read_bytes())
            if stored["sha256"] != _checksum(stored["deployment"]):
                raise ValueError("its checksum differs")
            deployment = Deployment.from_dict(stored["deployment"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DeploymentUnusable(
                f"{self.path} cannot be used: {error!r}. It is written anew as soon as the record "
                "of deployments can be read."
            ) from error
        refuse_gaps(deployment)
        return deployment

    def write(self, deployment: Deployment) -> None:
        """Make a deployment the one to serve: whole or not at all, and lasting.

        Raises
        ------
        DeploymentUnusable
            If no such deployment can be served.
        OSError
            If the disk refuses it.
        """
        refuse_gaps(deployment)
        values = deployment.to_dict()
        content = {"sha256": _checksum(values), "deployment": values}
        write_whole(self.path, json.dumps(content, indent=1), is_lasting=True)


@dataclass(frozen=True)
class AgentState:
    """What the agent last knew.

    Parameters
    ----------
    confirmed_at
        When the record of deployments was last read, in seconds since 1970; 0 for never.
    problem
        What keeps it from being followed; None for nothing.
    """

    confirmed_at: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class AgentFile:
    """The state of this host's agent."""

    path: Path

    def read(self) -> AgentState:
        """Give the state; that of an agent that never was when it cannot be read."""
        try:
            stored = json.loads(self.path.read_bytes())
            return AgentState(float(stored["confirmed_at"]), stored["problem"])
        except (OSError, ValueError, KeyError, TypeError):
            return AgentState()

    def write(self, state: AgentState) -> None:
        """Replace the state."""
        write_whole(self.path, json.dumps(vars(state), indent=1))


@dataclass(frozen=True)
class RestageRequest:
    """A worker's wish that what is staged be checked, and fetched again where it is damaged."""

    path: Path

    def ask(self) -> None:
        """Ask; asking twice is asking once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def take(self) -> bool:
        """Tell whether somebody has asked since the last time."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


def refuse_gaps(deployment: Deployment) -> None:
    """Refuse a deployment whose arms do not share the buckets out among themselves.

    Raises
    ------
    DeploymentUnusable
        If a bucket belongs to no arm, or to two.
    """
    edge = 0
    for arm in deployment.arms:
        if arm.first_bucket != edge or not edge < arm.last_bucket <= BUCKETS:
            break
        edge = arm.last_bucket
    if edge != BUCKETS:
        ranges = [f"{arm.label} {arm.first_bucket}–{arm.last_bucket}" for arm in deployment.arms]
        raise DeploymentUnusable(
            f"Deployment {deployment.generation} does not share out the buckets 0–{BUCKETS}: "
            f"{', '.join(ranges) or 'it has no arms'}. Deploy again."
        )


def _checksum(values: Mapping[str, Any]) -> str:
    content = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()

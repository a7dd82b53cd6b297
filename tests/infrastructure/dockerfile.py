"""The instructions of the Dockerfile, stage by stage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from configs.settings import ROOT

DOCKERFILE = ROOT / "infrastructure" / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    name: str
    rest: str


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage of the Dockerfile, in order."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            current = found.setdefault(rest.split(" AS ")[1], [])
        current.append(Instruction(name, " ".join(rest.split())))
    return found


def only(name: str, stage: str) -> list[str]:
    return [each.rest for each in stages()[stage] if each.name == name]

"""What an MLflow client asked for when the registry shows otherwise than was recorded.

PostgreSQL holds what is deployed and which stage each version has; the registry shows it as tags,
aliases and MLflow's own stages. A change of these with a stock client is a request: pure functions
say for what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from models.deployment.record import Deployment
from models.deployment.store import StageChange
from models.registry.versions import ModelVersion

Kind = Literal["deploy", "test", "stop_test", "stage", "refuse"]
PRODUCTION, CHALLENGER = "production", "challenger"
OURS = (PRODUCTION, CHALLENGER)


@dataclass(frozen=True)
class RegistryState:
    """Stages by version and aliases, as recorded or as the registry shows them."""

    stages: Mapping[int, str]
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class RegistryRequest:
    """A change that somebody made in the registry.

    Parameters
    ----------
    kind
        What would make it so; ``refuse`` if nothing can.
    version
        The version that it is about.
    stage
        The stage that the version would have.
    what
        What was done, for people.
    versions, aliases
        The stages and aliases that differ because of it: to be put back if it is refused.
    why_not
        The reason of a ``refuse``.
    """

    kind: Kind
    version: int
    stage: str
    what: str
    versions: frozenset[int] = frozenset()
    aliases: frozenset[str] = frozenset()
    why_not: str = ""


def recorded_state(
    versions: Sequence[ModelVersion],
    deployment: Deployment | None,
    changes: Sequence[StageChange],
) -> RegistryState:
    """What the registry must show, of the versions that are in it."""
    last = {change.version: change.path[-1] for change in changes}
    stages = {each.version: last.get(each.version, "None") for each in versions}
    arms = deployment.arms if deployment else ()
    names = dict(zip(OURS, arms, strict=False))
    return RegistryState(
        stages, {a: arm.version for a, arm in names.items() if arm.version in stages}
    )


def shown_state(
    versions: Sequence[ModelVersion], aliases: Mapping[str, int], expected: RegistryState
) -> RegistryState:
    """What the registry shows: of a version's tag and MLflow's own stage the one that differs."""
    stages = {}
    for each in versions:
        of = expected.stages[each.version]
        stages[each.version] = each.native_stage if each.native_stage != of else each.stage
    return RegistryState(stages, {name: aliases[name] for name in OURS if name in aliases})


def find_requests(expected: RegistryState, seen: RegistryState) -> list[RegistryRequest]:
    """What was asked for, the most far-reaching first; empty when nothing differs."""
    moved = {v: stage for v, stage in seen.stages.items() if stage != expected.stages[v]}
    turned = {a for a in OURS if seen.aliases.get(a) != expected.aliases.get(a)}
    found: list[RegistryRequest] = []
    for plan in (_deploys, _tests, _stages):
        for request in plan(expected, seen, moved, turned):
            found.append(request)
            for version in request.versions:
                moved.pop(version, None)
            turned -= request.aliases
    return found


def _deploys(
    expected: RegistryState, seen: RegistryState, moved: Mapping[int, str], turned: set[str]
) -> list[RegistryRequest]:
    """Another champion: by the alias, by a stage, or by both at once."""
    champion = expected.aliases.get(PRODUCTION)
    asked = {v for v, stage in moved.items() if stage == "Production"}
    aliases = frozenset({PRODUCTION} & turned)
    target = seen.aliases.get(PRODUCTION)
    if aliases and target is not None:
        asked.add(target)
    # MLflow archives the others in Production when asked to; so does a deployment.
    archived = {v for v in expected.aliases.values() if moved.get(v) == "Archived"}
    covered = frozenset((asked | archived) & set(moved))
    if len(asked) == 1:
        [version] = asked
        what = f"alias {PRODUCTION} set" if aliases else "moved to Production"
        return [RegistryRequest("deploy", version, "Production", what, covered, aliases)]
    if asked:
        why = f"versions {', '.join(map(str, sorted(asked)))} were put into production at once"
        return [
            RegistryRequest(
                "refuse", min(asked), "Production", "moved to Production", covered, aliases, why
            )
        ]
    if aliases and champion is not None:
        why = "something must serve; deploy another version, or roll back"
        what = f"alias {PRODUCTION} removed"
        return [RegistryRequest("refuse", champion, "Archived", what, frozenset(), aliases, why)]
    return []


def _tests(
    expected: RegistryState, seen: RegistryState, moved: Mapping[int, str], turned: set[str]
) -> list[RegistryRequest]:
    """A test that begins or ends: by the alias of the challenger, or by archiving it."""
    tested, target = expected.aliases.get(CHALLENGER), seen.aliases.get(CHALLENGER)
    aliases = frozenset({CHALLENGER} & turned)
    if aliases and target is not None:
        what = f"alias {CHALLENGER} set"
        if target == expected.aliases.get(PRODUCTION):
            why = "it is the champion, which cannot be tested against itself"
            return [
                RegistryRequest("refuse", target, "Production", what, frozenset(), aliases, why)
            ]
        return [RegistryRequest("test", target, "Production", what, frozenset(), aliases)]
    is_archived = tested is not None and moved.get(tested) == "Archived"
    if tested is not None and (aliases or is_archived):
        what = f"alias {CHALLENGER} removed" if aliases else "archived"
        covered = frozenset({tested} & set(moved))
        return [RegistryRequest("stop_test", tested, "Archived", what, covered, aliases)]
    return []


def _stages(
    expected: RegistryState, seen: RegistryState, moved: Mapping[int, str], turned: set[str]
) -> list[RegistryRequest]:
    """A version that does not serve is staged or archived; all else is refused."""
    found = []
    for version, stage in moved.items():
        what, covered = f"moved to {stage}", frozenset({version})
        if version in expected.aliases.values():
            why = "it serves; deploy another version first, or roll back"
        elif stage in {"Staging", "Archived"}:
            found.append(RegistryRequest("stage", version, stage, what, covered))
            continue
        else:
            why = "a version does not go back to where it began; archive it"
        found.append(RegistryRequest("refuse", version, stage, what, covered, frozenset(), why))
    return found

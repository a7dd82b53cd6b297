"""What changed between two definitions of a view, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Meaning = Mapping[str, Any]
"""`FeatureDefinition.meaning`, perhaps read back from JSON."""

MOST_NAMED = 5
"""So many features are told apart in one message; the rest are counted."""


def schema_changes(old: Sequence[Meaning], new: Sequence[Meaning]) -> list[str]:
    """One phrase for each feature that is new, gone, changed or moved; none when all is equal.

    Examples
    --------
    >>> age = {"name": "age", "kind": "integer", "version": 1, "categories": [],
    ...        "valid_range": [0, 120], "inputs": []}
    >>> schema_changes([age], [age | {"valid_range": [0, 99]}, age | {"name": "height"}])
    ["'height' is new", "feature 'age' changed: valid_range 0 to 120 → 0 to 99"]
    """
    before, after = _by_name(old), _by_name(new)
    changes = [f"'{name}' is new" for name in after if name not in before]
    changes += [f"'{name}' is gone" for name in before if name not in after]
    kept = [name for name in after if name in before]
    for name in kept:
        was, now = before[name], after[name]
        facts = [_change(fact, was.get(fact), now.get(fact)) for fact in {**was, **now}]
        if any(facts):
            changes.append(f"feature '{name}' changed: {'; '.join(filter(None, facts))}")
    return changes + _moved([name for name in before if name in after], kept)


def summary(changes: Sequence[str]) -> str:
    """The changes in one line: the first few, and how many more there are."""
    more = [f"and {len(changes) - MOST_NAMED} more"] if len(changes) > MOST_NAMED else []
    return "; ".join([*changes[:MOST_NAMED], *more])


def _by_name(meanings: Sequence[Meaning]) -> dict[str, Meaning]:
    return {meaning["name"]: meaning for meaning in meanings}


def _change(fact: str, old: Any, new: Any) -> str:
    if _plain(old) == _plain(new):
        return ""
    if fact == "categories" and list(new[: len(old)]) == list(old):
        return f"categories gain {', '.join(new[len(old) :])}"
    if fact == "valid_range":
        return f"valid_range {_range(old)} → {_range(new)}"
    return f"{fact} {_text(old)} → {_text(new)}"


def _moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    places = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    if not places:
        return []
    return [f"features are in another order: '{places[0][1]}' stands where '{places[0][0]}' stood"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _range(limits: Any) -> str:
    return "any" if limits is None else f"{limits[0]:g} to {limits[1]:g}"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)

"""The feature catalogue (``docs/features.md``) and the record of every feature's code.

    python -m feature_store.catalogue [--check]

The record keeps a hash of each feature's source and tables beside its version: who changes what a
feature means without raising its version is refused, because stored rows would be wrong.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from configs.settings import ROOT
from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.definitions.window_plan import AGGREGATES, Window
from feature_store.definitions.window_totals import contributions
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.feature_definitions import VIEWS

CATALOGUE = ROOT / "docs" / "features.md"
WINDOWED_CODE: Sequence[Callable[..., object]] = (
    Window.starts,
    contributions,
    *AGGREGATES.values(),
)
"""What decides the values of windowed views."""
RECORD = ROOT / "feature_store" / "feature_versions.json"


def catalogue(views: Iterable[View]) -> str:
    """The catalogue page of some views, in Markdown."""
    introduction = (
        "Made from the definitions by `make docs`; edit `feature_store/feature_definitions.py`. "
        "Missing numbers are NaN (NULL, None); missing and unseen categories have codes of their "
        "own."
    )
    pages = [
        _windowed_section(v) if isinstance(v, ActivityView) else _stored_section(v) for v in views
    ]
    return "\n".join(["# Features", "", introduction, "", *chain.from_iterable(pages)])


def _stored_section(view: FeatureView) -> list[str]:
    derived = [f for f in view.definitions.values() if not f.is_raw]
    # A place of an array is a feature to a model, and what a model takes of a lookup is one.
    shown = [f for f in view.definitions.values() if f.array is None and not f.is_cast]
    introduction = (
        f"{len(view.definitions)} features of the entity `{view.entity}`: {len(view.raw_features)} "
        f"raw columns and {len(derived)} derived from them. Schema fingerprint "
        f"`{view.schema.fingerprint}`. **P** marks features that tell of a protected attribute."
    )
    rows = (_row(view.schema.position(f.name) + 1, f) for f in shown)
    return [
        *(f"## `{view.name}`", "", introduction, ""),
        "| # | feature | kind | values | P | made from | description |",
        "|---|---|---|---|---|---|---|",
        *(*rows, "", *_fills(view), *_arrays(view), *_lookups(view)),
    ]


def _fills(view: FeatureView) -> list[str]:
    if not view.fills:
        return []
    fills = [f"- `{name}` from {_names(fill.inputs)}" for name, fill in sorted(view.fills.items())]
    return ["Derived when absent:", "", *fills, ""]


def _arrays(view: FeatureView) -> list[str]:
    if not view.arrays:
        return []
    rows = [
        f"| {view.schema.position(each.members[0]) + 1} | `{each.name}` | {each.size} | "
        f"{each.unit} | {_protected(each)} | {_marks(each)} | {each.description} |"
        for each in view.arrays.values()
    ]
    return [
        *("Arrays, each place of which is a feature (`name_0` and so on):", ""),
        "| # | array | size | unit | P | missing | description |",
        "|---|---|---|---|---|---|---|",
        *(*rows, ""),
    ]


def _lookups(view: FeatureView) -> list[str]:
    if not view.exact:
        return []
    rows = [
        f"| `{each.name}` | {each.type} | {each.unit} | {_protected(each)} | {_marks(each)} | "
        f"{each.description} |"
        for each in view.exact.values()
    ]
    introduction = (
        "Lookups, kept to the digit; a model takes `float64` as the nearest float32, and of the "
        "others what functions make of them:"
    )
    return [
        *(introduction, ""),
        "| lookup | type | unit | P | missing | description |",
        "|---|---|---|---|---|---|",
        *(*rows, ""),
    ]


def _windowed_section(view: ActivityView) -> list[str]:
    introduction = (
        f"{len(view.definitions)} windowed features of the entity `{view.entity}`, made from the "
        "events in `user_events` as of the time of reading, absent when the newest event is older "
        f"than {view.ttl_text}. Schema fingerprint `{view.schema.fingerprint}`. The tail of a "
        "window moves in hops; see [the feature store](feature_store.md)."
    )
    rows = [
        f"| {place} | `{f.name}` | {f.kind} | {f.rule['aggregation']} of {f.rule['of']} | "
        f"{f.rule['event_type']} | {f.rule['window']} | {f.rule['hop']} | {f.unit} | "
        f"{f.description} |"
        for place, f in enumerate(view.definitions.values(), start=1)
    ]
    return [
        *(f"## `{view.name}`", "", introduction, ""),
        "| # | feature | kind | aggregation | event type | window | hop | unit | description |",
        "|---|---|---|---|---|---|---|---|---|",
        *(*rows, ""),
    ]


def record(views: Iterable[View]) -> dict[str, dict[str, str | int]]:
    """Version and code hash of whatever makes values.

    Derived features, rules that fill a column, and all of a windowed view together.
    """
    entries: dict[str, dict[str, str | int]] = {}
    for view in views:
        if isinstance(view, ActivityView):
            entries[view.name] = {"version": view.version, "code": _hash(WINDOWED_CODE)}
            continue
        definitions = [*view.definitions.values(), *view.fills.values()]
        entries |= {
            f.function.__name__: {"version": f.version, "code": code_hash(f)}
            for f in definitions
            if f.function is not None
        }
    return entries


def changed_without_version(
    known: Mapping[str, Mapping[str, str | int]], now: Mapping[str, Mapping[str, str | int]]
) -> list[str]:
    """Names of features whose code changed while their version did not."""
    return [
        name
        for name, entry in now.items()
        if name in known
        and entry["version"] == known[name]["version"]
        and entry["code"] != known[name]["code"]
    ]


def code_hash(feature: FeatureDefinition) -> str:
    """Hash of a feature's source and of the tables that it reads (16 hex characters)."""
    function = feature.function
    assert function is not None
    tables = [function.__globals__.get(name) for name in function.__code__.co_names]
    return _hash([function], *_table_bytes(tables))


def _hash(functions: Sequence[Callable[..., object]], *more: bytes) -> str:
    body = "".join("".join(inspect.getsource(function).split()) for function in functions)
    return hashlib.sha256(body.encode() + b"".join(more)).hexdigest()[:16]


def _table_bytes(tables: list[object]) -> Iterator[bytes]:
    for table in tables:
        for array in vars(table).values() if hasattr(table, "__dict__") else ():
            if isinstance(array, np.ndarray):
                yield array.tobytes()


def _row(place: int, feature: FeatureDefinition) -> str:
    if feature.open_to is not None:
        values = f"the first {feature.open_to:,} words that come"
    elif feature.kind == "category":
        words = feature.categories
        values = ", ".join(words[:5]) + (f", … ({len(words)})" if len(words) > 5 else "")
    elif feature.valid_range is None:
        values = "true or false" if feature.kind == "boolean" else f"any {feature.unit}".rstrip()
    else:
        low, high = feature.valid_range
        values = f"{low:,.10g} to {high:,.10g} {feature.unit}".rstrip()
    origin = _names(feature.inputs) or "raw"
    return (
        f"| {place} | `{feature.name}` | {feature.kind} | {values} | {_protected(feature)} | "
        f"{origin} | {feature.description} |"
    )


def _protected(column: FeatureDefinition | ArrayColumn | ExactColumn) -> str:
    return "**P**" if column.protected else ""


def _marks(column: ArrayColumn | ExactColumn) -> str:
    return ", ".join(f"`{mark}`" for mark in column.missing_marks)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main(arguments: list[str]) -> int:
    """Write the catalogue and the record, or with ``--check`` say what is out of date."""
    page, now = catalogue(VIEWS), record(VIEWS)
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    changed = changed_without_version(known, now)
    if changed:
        print(
            f"✗ The code of {', '.join(changed)} changed but not the version. Raise version=… in "
            "the definition, so that rows computed before are not taken for new ones.",
            file=sys.stderr,
        )
        return 1
    if "--check" in arguments:
        stale = [path.name for path, text in _files(page, now) if _differs(path, text)]
        if stale:
            print(f"✗ {' and '.join(stale)}: out of date. Run `make docs`.", file=sys.stderr)
        return 1 if stale else 0
    for path, text in _files(page, now):
        path.write_text(text)
    print(f"✓ Wrote {CATALOGUE.relative_to(ROOT)} and {RECORD.relative_to(ROOT)}")
    return 0


def _files(page: str, now: Mapping[str, object]) -> list[tuple[Path, str]]:
    return [(CATALOGUE, page), (RECORD, json.dumps(now, indent=1) + "\n")]


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text() != text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

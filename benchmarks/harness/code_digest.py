"""Which code a figure was measured with: a digest that moves, comments and layout do not change."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from configs.settings import ROOT

ROOMS = (
    *("benchmarks", "configs", "infrastructure", "feature_store", "models", "monitoring"),
    *("serving", "pipelines"),
)


def code_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256, in 16 hex digits, of all that a program can reach by its imports in this repository.

    It is of the set of top-level statements without their docstrings and imports, so that code may
    move to another file and keep its digest; a changed value, name or condition changes it.

    Parameters
    ----------
    module
        Such as ``benchmarks.online_read``.
    """
    statements: set[bytes] = set()
    waiting, seen = [module], {module}
    while waiting:
        path = _path(waiting.pop(), root)
        if path is not None:
            found, imports = _read(path)
            statements |= found
            waiting += imports - seen
            seen |= imports
    return hashlib.sha256(b"".join(sorted(statements))).hexdigest()[:16]


@cache
def _read(path: Path) -> tuple[frozenset[bytes], frozenset[str]]:
    """The digests of a module's statements, and what it imports of this repository."""
    tree = ast.parse(path.read_bytes())
    imports = frozenset(_imports(tree))
    return frozenset(_digest(each) for each in tree.body if not _is_import(each)), imports


def _path(module: str, root: Path) -> Path | None:
    place = root.joinpath(*module.split("."))
    candidates = place.with_suffix(".py"), place / "__init__.py"
    return next((path for path in candidates if path.is_file()), None)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Modules of this repository that are imported anywhere in a module, also where it is used."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] in ROOMS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS:
            yield str(node.module)
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _is_import(node: ast.stmt) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or isinstance(node, ast.Import | ast.ImportFrom)


def _digest(statement: ast.stmt) -> bytes:
    for node in ast.walk(statement):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [each for each in body if not _is_import(each)]
    return hashlib.sha256(ast.dump(statement).encode()).digest()

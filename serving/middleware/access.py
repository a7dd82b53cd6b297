"""Who may ask what: API keys, of which only hashes are known here, and what each role may do."""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from configs.deployment_config import KEY_PREFIX, PERMISSIONS, ROLES, Permission

Headers = Mapping[bytes, bytes]

KEY_BYTES = 32
"""Random keys of this size need no slow hash: 2**256 cannot be tried."""
OPEN_PATHS = frozenset({"/health", "/ready"})
NEEDED: Mapping[str, Permission | None] = {
    "/predict": "predict",
    "/predict/batch": "predict",
    "/explain": "explain",
    "/feedback": "feedback",
    "/features/": "read_features",
    "/predictions/": "read_predictions",
    "/metrics": "operate",
    "/experiment": "operate",
    "/model": None,
    "/docs/": None,
}
"""What a path needs, or all paths that begin so; None: any key. See `require_decided`."""
BEARER = b"bearer "


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the key, None where no keys are asked for, and what it may do."""

    name: str | None
    permissions: frozenset[Permission]

    def may(self, permission: Permission) -> bool:
        """Tell whether the caller may do something."""
        return permission in self.permissions


ANYBODY = Caller(None, frozenset(PERMISSIONS))
"""Where no keys are configured everybody may do everything."""
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=ANYBODY)
"""Who asks, for what answers: an answer shows what its caller may see."""


def needed_permission(path: str) -> Permission | None:
    """Give what a path needs; None for any key.

    Examples
    --------
    >>> needed_permission("/predict"), needed_permission("/features/7"), needed_permission("/model")
    ('predict', 'read_features', None)
    """
    return NEEDED.get(_rule_of(path))


def require_decided(paths: Iterable[str], open_paths: Collection[str]) -> None:
    """Refuse to start with a path of which nobody has said what it needs.

    Raises
    ------
    ValueError
        Naming it.
    """
    for path in paths:
        if path and _rule_of(path) not in NEEDED and path not in open_paths:
            raise ValueError(f"say in NEEDED which permission {path} needs")


def _rule_of(path: str) -> str:
    """The path itself where it has a rule of its own, else all that lies below its first part."""
    return path if path in NEEDED else path[: path.find("/", 1) + 1]


@dataclass(frozen=True)
class KeyHolder:
    """A caller, and the digest of its key."""

    caller: Caller
    digest: bytes


@dataclass(frozen=True)
class KeyRing:
    """All holders of keys; an empty ring needs no key."""

    holders: tuple[KeyHolder, ...]

    def holder(self, key: bytes) -> KeyHolder | None:
        """Find whose key this is, in a time that says nothing about the keys."""
        digest, found = hashlib.sha256(key).digest(), None
        for holder in self.holders:
            if hmac.compare_digest(holder.digest, digest):
                found = holder
        return found


def new_key() -> tuple[str, str]:
    """Make a key; give it and its SHA-256 in hex.

    Examples
    --------
    >>> key, digest = new_key()
    >>> len(key), len(digest)
    (47, 64)
    """
    key = f"{KEY_PREFIX}{secrets.token_urlsafe(KEY_BYTES)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def print_new_key(arguments: list[str]) -> int:
    """Make a key, print it once, and what to write into the settings; return the exit code.

    The command is ``python -m serving new-key --role predict``.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving new-key",
        description="Make an API key. Only its hash is kept; the key is shown this once.",
    )
    parser.add_argument(
        "--role", default="predict", help=f"{', '.join(ROLES)}, or one of deployment.api.roles"
    )
    parser.add_argument("--name", default="caller", help="whose key it is, for the log")
    options = parser.parse_args(arguments)
    key, digest = new_key()
    entry = {"name": options.name, "role": options.role, "key_sha256": digest}
    print(f"key:     {key}")
    print(f"setting: {json.dumps(entry)}")
    print("Give the key to its holder. Add the setting to deployment.api.keys, then restart:")
    print(f"FTI_DEPLOYMENT__API__KEYS='[{json.dumps(entry)}]'")
    return 0


def key_in(headers: Headers) -> bytes | None:
    """Find the key that a request shows: ``Authorization: Bearer …`` or ``X-API-Key: …``.

    Examples
    --------
    >>> key_in({b"authorization": b"Bearer fti_abc"})
    b'fti_abc'
    >>> key_in({b"authorization": b"Basic dXNlcg=="}) is None
    True
    """
    shown = headers.get(b"x-api-key")
    if shown is not None:
        return shown
    authorization = headers.get(b"authorization", b"")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return None

"""Who may ask what: API keys, of which only hashes are known here, and what each role may do."""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from configs.deployment_config import KEY_PREFIX

Role = Literal["predict", "admin"]
Headers = Mapping[bytes, bytes]

KEY_BYTES = 32
"""Random keys of this size need no slow hash: 2**256 cannot be tried."""
OPEN_PATHS = frozenset({"/health", "/ready"})
ADMIN_PATHS = ("/metrics", "/experiment", "/features/", "/predictions/")
"""Paths that show data of persons or of the system."""
BEARER = b"bearer "


@dataclass(frozen=True)
class KeyHolder:
    """The name and role of a caller, and the digest of its key."""

    name: str
    role: Role
    digest: bytes

    def may_ask(self, path: str) -> bool:
        """Tell whether the role suffices for a path."""
        return self.role == "admin" or not path.startswith(ADMIN_PATHS)


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
    parser.add_argument("--role", choices=("predict", "admin"), default="predict")
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

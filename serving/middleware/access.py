"""Who may ask what: API keys, of which only hashes are known here, and what each role may do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from configs.deployment_config import KEY_PREFIX

Role = Literal["predict", "admin"]
Headers = Mapping[bytes, bytes]

KEY_BYTES = 32
"""So much chance needs no slow hash: nobody can try 2**256 keys."""
OPEN_PATHS = frozenset({"/health", "/ready"})
ADMIN_PATHS = ("/metrics", "/experiment", "/features/", "/predictions/")
"""What tells about people or about the system."""
BEARER = b"bearer "


@dataclass(frozen=True)
class KeyHolder:
    """Somebody who has a key."""

    name: str
    role: Role
    digest: bytes

    def may_ask(self, path: str) -> bool:
        """Tell whether the role suffices for a path."""
        return self.role == "admin" or not path.startswith(ADMIN_PATHS)


@dataclass(frozen=True)
class KeyRing:
    """All holders of keys; an empty ring lets everybody in."""

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

"""The versions of each view in Redis: which are being filled, and what each one means.

Two hashes a view: ``{project}:{view}:versions`` (fingerprint to ``filling`` or ``ready``) and
``{project}:{view}:definitions`` (fingerprint to the meaning of its features, as JSON).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.schema_changes import schema_changes
from feature_store.errors import SchemaMismatch
from feature_store.offline.versions import not_stored, still_filling

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

# The first version of a view may be read from its first row; later ones wait for the switch.
REGISTER = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local state = ARGV[2]
  if state == '' then
    state = redis.call('HLEN', KEYS[1]) == 0 and 'ready' or 'filling'
  end
  redis.call('HSET', KEYS[1], ARGV[1], state)
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
"""


class OnlineVersions:
    """Knows whether one version of a view may be read; asks Redis until it may.

    Parameters
    ----------
    client
        A redis-py client.
    project, schema
        The version: the whole view as it is defined.
    """

    def __init__(self, client: Redis, project: str, schema: FeatureSchema) -> None:
        self.client = client
        self.schema = schema.whole or schema
        self.states_key = f"{project}:{schema.view}:versions"
        self.definitions_key = f"{project}:{schema.view}:definitions"
        self._definition = json.dumps(self.schema.meaning)
        self._register = client.register_script(REGISTER)
        self._is_ready = False

    def register(self, client: Redis | None = None, *, is_filling: bool = False) -> None:
        """Note the version before its first row is written.

        Parameters
        ----------
        client
            A pipeline that is to do it.
        is_filling
            Whether even the first version of the view must wait for `switch`.
        """
        state = "filling" if is_filling else ""
        keys = [self.states_key, self.definitions_key]
        self._register(keys, [self.schema.fingerprint, state, self._definition], client)

    def switch(self) -> None:
        """Let the version be read from now on."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.hset(self.states_key, self.schema.fingerprint, "ready")
        pipeline.hset(self.definitions_key, self.schema.fingerprint, self._definition)
        pipeline.execute()

    def require_ready(self) -> None:
        """Refuse to read a version that is being filled; costs nothing once it was ready.

        Raises
        ------
        SchemaMismatch
            With the command that completes it.
        """
        if not self._is_ready:
            self.refuse_filling(self.client.hget(self.states_key, self.schema.fingerprint))

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""
        if not self._is_ready:
            state: Any = client.hget(self.states_key, self.schema.fingerprint)
            self.refuse_filling(await state)

    def refuse_filling(self, state: Any) -> None:
        """`require_ready`, given what Redis says of the version."""
        if state == b"filling":
            raise SchemaMismatch(still_filling(self.schema))
        self._is_ready = state == b"ready"

    def require_stored(self) -> None:
        """Refuse to take a row for absent where only other versions have rows.

        Raises
        ------
        SchemaMismatch
            With what differs from a version that is stored.
        """
        states: Any = self.client.hgetall(self.states_key)
        if not states or self.schema.fingerprint.encode() in states:
            return
        stored = [name for name, state in states.items() if state == b"ready"] or list(states)
        definition: Any = self.client.hget(self.definitions_key, stored[-1].decode())
        changes = schema_changes(json.loads(definition), self.schema.meaning) if definition else []
        names = ", ".join(name.decode() for name in states)
        raise SchemaMismatch(not_stored(self.schema, "online", names, changes))

    def forget(self) -> None:
        """Forget the version, when its rows are deleted."""
        self.client.hdel(self.states_key, self.schema.fingerprint)
        self.client.hdel(self.definitions_key, self.schema.fingerprint)

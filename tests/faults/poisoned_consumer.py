"""A consumer whose process dies of some events: ``python -m tests.faults.poisoned_consumer``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime

from configs.settings import load_settings
from feature_store import connect
from feature_store.profiles.writer import ProfileChange, ProfileWriter


class Poisoned(ProfileWriter):
    """Ends the process in the middle of writing when an event is poison."""

    def apply(self, changes: Sequence[ProfileChange], now: datetime) -> int:
        if any(change.event_id.startswith("poison") for change in changes):
            os._exit(9)
        return super().apply(changes, now)


def main() -> None:
    consumer = connect.stream_consumer(load_settings(), f"poisoned-{os.getpid()}")
    writer = consumer.writers[ProfileChange]
    assert isinstance(writer, ProfileWriter)
    poisoned = Poisoned(writer.engine, writer.offline, writer.online)
    consumer.writers = {**consumer.writers, ProfileChange: poisoned}
    consumer.run(until_empty="--until-empty" in sys.argv)


if __name__ == "__main__":
    main()

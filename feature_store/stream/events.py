"""The form of events in the stream: flat fields of text, checked when they are read.

=================  =================================  ==========================
field              profile change                     activity
=================  =================================  ==========================
kind               profile                            activity
event_id           text, up to 200 characters         likewise
user_id            whole number                       likewise
event_timestamp    ISO 8601, UTC unless it says so    likewise
attributes         raw attributes as a JSON object    –
event_type         –                                  text
amount_cents       –                                  whole number, or no field
=================  =================================  ==========================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from configs.errors import nearest
from feature_store.definitions.cleaning import WHOLE_WITH_FRACTION, strip
from feature_store.definitions.view import FeatureView
from feature_store.errors import InvalidEvent, InvalidValue
from feature_store.offline.events import ActivityEvent
from feature_store.profiles.writer import ProfileChange

Event = ProfileChange | ActivityEvent
Fields = Mapping[bytes, bytes]

LONGEST_TEXT = 200
LARGEST_KEY = 2**63 - 1
SHOWN_CHARACTERS = 60

COMMON = ("kind", "event_id", "user_id", "event_timestamp")
FIELDS = {
    "profile": (*COMMON, "attributes"),
    "activity": (*COMMON, "event_type", "amount_cents"),
}

NAMES = {name.encode(): name for names in FIELDS.values() for name in names}
"""Names are the same in every entry: looked up, not decoded."""


def fields_of(event: Event) -> dict[str, str]:
    """An event as the stream holds it."""
    common = {
        "event_id": event.event_id,
        "user_id": str(event.key),
        "event_timestamp": event.time.isoformat(),
    }
    if isinstance(event, ProfileChange):
        return {"kind": "profile", **common, "attributes": json.dumps(dict(event.attributes))}
    amount = {} if event.amount_cents is None else {"amount_cents": str(event.amount_cents)}
    return {"kind": "activity", **common, "event_type": event.event_type, **amount}


def fields_of_json(line: str) -> dict[str, str]:
    """One line of a JSON-lines file as the stream holds it; what it says is checked later.

    Raises
    ------
    InvalidEvent
        If the line is no JSON object.

    Examples
    --------
    >>> fields_of_json('{"kind": "profile", "user_id": 7, "attributes": {"age": 36}}')
    {'kind': 'profile', 'user_id': '7', 'attributes': '{"age": 36}'}
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found:
        raise InvalidEvent(f"'{_shown(line)}' is no JSON object; expected one event a line.")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in found.items()
        if value is not None
    }


class EventParser:
    """Turns fields into events, and says of those that are none what is wrong with them.

    Parameters
    ----------
    view
        Whose raw columns are the attributes of profile changes.

    Examples
    --------
    >>> from feature_store.feature_definitions import MODEL_VIEW
    >>> EventParser(MODEL_VIEW).parse({
    ...     b"kind": b"profile", b"event_id": b"e1", b"user_id": b"7",
    ...     b"event_timestamp": b"2026-01-05T10:00:00Z", b"attributes": b'{"age": 36}'})
    ProfileChange(event_id='e1', key=7, time=datetime.datetime(...), attributes={'age': 36})
    """

    def __init__(self, view: FeatureView) -> None:
        self.raw = {feature.name: feature for feature in view.raw_features}
        self.kinds: dict[str, Callable[[dict[str, str]], Event]] = {
            "profile": self._profile,
            "activity": self._activity,
        }

    def parse(self, fields: Fields) -> Event:
        """Turn the fields of a stream's entry into an event.

        Raises
        ------
        InvalidEvent
            Saying what arrived and what was expected.
        """
        try:
            texts = {
                NAMES.get(name) or name.decode(): each.decode() for name, each in fields.items()
            }
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"a field is not UTF-8: {error}") from None
        kind = texts.get("kind")
        if kind not in FIELDS:
            raise _unexpected("kind", kind, _known_names(str(kind), FIELDS))
        for name in texts:
            if name not in FIELDS[kind]:
                expected = _known_names(name, FIELDS[kind])
                raise InvalidEvent(f"a {kind} event has no field '{_shown(name)}', {expected}")
        return self.kinds[kind](texts)

    def _profile(self, texts: dict[str, str]) -> ProfileChange:
        return ProfileChange(
            _text("event_id", texts),
            _whole("user_id", texts.get("user_id"), LARGEST_KEY),
            _time(texts),
            self._attributes(texts.get("attributes")),
        )

    def _activity(self, texts: dict[str, str]) -> ActivityEvent:
        amount = texts.get("amount_cents")
        return ActivityEvent(
            _text("event_id", texts),
            _whole("user_id", texts.get("user_id"), LARGEST_KEY),
            _time(texts),
            _text("event_type", texts),
            None if amount is None else _whole("amount_cents", amount, LARGEST_KEY),
        )

    def _attributes(self, text: str | None) -> dict[str, Any]:
        try:
            found = DECODER.decode(text or "")
        except (ValueError, RecursionError) as error:
            raise _unexpected("attributes", text, f"expected a JSON object ({error})") from None
        if not isinstance(found, dict) or not found:
            raise _unexpected("attributes", text, "expected a JSON object with an attribute")
        for name, value in found.items():
            feature = self.raw.get(name)
            if feature is None:
                known = _known_names(name, self.raw)
                raise InvalidEvent(f"there is no attribute '{_shown(name)}', {known}")
            try:
                feature.refuse(value)
            except InvalidValue as error:
                raise InvalidEvent(str(error)) from None
            if isinstance(value, str) and strip(value) and not _is_text(strip(value)):
                raise _unexpected(name, value, "expected a word, or null")
        return found


def _text(name: str, texts: Mapping[str, str]) -> str:
    value = texts.get(name)
    if value is None or not _is_text(value):
        raise _unexpected(name, value, f"expected 1 to {LONGEST_TEXT} printable characters")
    return value


def _whole(name: str, text: str | None, most: int) -> int:
    text = None if text is None else re.sub(WHOLE_WITH_FRACTION, r"\1", text)
    digits = (text or "").removeprefix("-")
    # Python's int() takes more than that: spaces, underscores, digits of other scripts.
    if text is None or not (digits.isascii() and digits.isdigit() and len(digits) < LONGEST_TEXT):
        raise _unexpected(name, text, "expected a whole number")
    if abs(int(text)) > most:
        raise _unexpected(name, text, f"expected at most {most}")
    return int(text)


def _time(texts: Mapping[str, str]) -> datetime:
    text = texts.get("event_timestamp")
    try:
        time = datetime.fromisoformat(text or "")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        expected = "expected ISO 8601, such as 2026-01-31T12:00:00+00:00"
        raise _unexpected("event_timestamp", text, expected) from None


def _is_text(value: str) -> bool:
    return 0 < len(value) <= LONGEST_TEXT and value.isprintable()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _unexpected(name: str, value: object, expected: str) -> InvalidEvent:
    found = "missing" if value is None else f"'{_shown(str(value))}'"
    return InvalidEvent(f"{name} is {found}, {expected}")


def _known_names(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    hint = f"did you mean '{near}'? " if near else ""
    return f"{hint}expected one of {', '.join(known)}"


def _shown(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"

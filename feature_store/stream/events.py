"""The form of events in the stream: flat fields of text, checked when they are read.

=================  =================================  ==========================
field              profile change                     activity
=================  =================================  ==========================
kind               profile                            activity
event_id           text, up to 200 characters         likewise
user_id            whole number                       likewise
(or the key's      text or whole number               likewise
own columns)
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
from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.cleaning import WHOLE_WITH_FRACTION, strip
from feature_store.definitions.entity import LARGEST_KEY, Entity
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.errors import InvalidEvent, InvalidValue
from feature_store.offline.events import ActivityEvent
from feature_store.profiles.writer import ProfileChange

Event = ProfileChange | ActivityEvent
Fields = Mapping[bytes, bytes]

LONGEST_TEXT = 200
SHOWN_CHARACTERS = 60

OWN_FIELDS = {"profile": ("attributes",), "activity": ("event_type", "amount_cents")}
"""What events of a kind have beside what all have."""


def fields_of(event: Event) -> dict[str, str]:
    """An event as the stream holds it."""
    common = {
        "event_id": event.event_id,
        **({"user_id": str(event.key)} if event.key_fields is None else event.key_fields),
        "event_timestamp": event.time.isoformat(),
    }
    if isinstance(event, ProfileChange):
        return {"kind": "profile", **common, "attributes": json.dumps(dict(event.attributes))}
    amount = {} if event.amount_cents is None else {"amount_cents": str(event.amount_cents)}
    return {"kind": "activity", **common, "event_type": event.event_type, **amount}


def key_of(fields: Mapping[str, str]) -> str | None:
    """What an event is about, as one text: its events stay in order; None where it does not say.

    Examples
    --------
    >>> key_of({"kind": "activity", "event_id": "e", "user_id": "7", "event_type": "view"})
    '7'
    """
    others = {
        "kind",
        "event_id",
        "event_timestamp",
        *OWN_FIELDS["profile"],
        *OWN_FIELDS["activity"],
    }
    return ",".join(fields[name] for name in sorted(set(fields) - others)) or None


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
    activity
        What activities are about; the same as the view when None.

    Examples
    --------
    >>> from feature_store.feature_definitions import MODEL_VIEW
    >>> EventParser(MODEL_VIEW).parse({
    ...     b"kind": b"profile", b"event_id": b"e1", b"user_id": b"7",
    ...     b"event_timestamp": b"2026-01-05T10:00:00Z", b"attributes": b'{"age": 36}'})
    ProfileChange(event_id='e1', key=7, time=datetime.datetime(...), attributes={'age': 36})
    """

    def __init__(self, view: FeatureView, activity: Entity | None = None) -> None:
        self.entities = {"profile": view.key, "activity": activity or view.key}
        self.fields = {
            kind: ("kind", "event_id", *self.entities[kind].columns, "event_timestamp", *own)
            for kind, own in OWN_FIELDS.items()
        }
        # Names are the same in every entry: looked up, not decoded.
        self.names = {name.encode(): name for names in self.fields.values() for name in names}
        columns = {f.name: f for f in view.raw_features if f.array is None}
        self.raw: dict[str, FeatureDefinition | ArrayColumn | ExactColumn] = {
            **columns,
            **view.arrays,
            **view.exact,
        }
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
                self.names.get(name) or name.decode(): each.decode()
                for name, each in fields.items()
            }
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"a field is not UTF-8: {error}") from None
        kind = texts.get("kind")
        if kind not in self.fields:
            raise _unexpected("kind", kind, _known_names(str(kind), self.fields))
        for name in texts:
            if name not in self.fields[kind]:
                expected = _known_names(name, self.fields[kind])
                raise InvalidEvent(f"a {kind} event has no field '{_shown(name)}', {expected}")
        return self.kinds[kind](texts)

    def _profile(self, texts: dict[str, str]) -> ProfileChange:
        event_id, (key, fields) = _text("event_id", texts), self._key("profile", texts)
        return ProfileChange(
            event_id, key, _time(texts), self._attributes(texts.get("attributes")), fields
        )

    def _activity(self, texts: dict[str, str]) -> ActivityEvent:
        amount, event_id = texts.get("amount_cents"), _text("event_id", texts)
        key, fields = self._key("activity", texts)
        return ActivityEvent(
            event_id,
            key,
            _time(texts),
            _text("event_type", texts),
            None if amount is None else _whole("amount_cents", amount, LARGEST_KEY),
            fields,
        )

    def _key(self, kind: str, texts: dict[str, str]) -> tuple[int, dict[str, str] | None]:
        """The identity, and the fields that it comes from where they are another."""
        entity = self.entities[kind]
        if entity.is_whole:
            return _whole(entity.name, texts.get(entity.name), LARGEST_KEY), None
        try:
            key = entity.read({name: texts.get(name) for name in entity.columns})
        except InvalidValue as error:
            raise InvalidEvent(str(error)) from None
        return entity.identity(key), {n: str(value) for n, value in entity.values(key).items()}

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
            if isinstance(feature, ExactColumn):
                continue  # has a text of its own length, with any characters
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

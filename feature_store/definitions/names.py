"""Names that views, entities and columns may have: they are tables and columns of PostgreSQL."""

from __future__ import annotations

import re

from feature_store.errors import DefinitionError

RESERVED = (
    *("event_timestamp", "created_timestamp", "row_digest", "from_changes"),
    *("place_of_row", "identity_of_key"),
)
"""Columns of a view's table, or of what is made of it, beside its entity and its features."""
REQUEST_FIELDS = ("unit_id",)
REPORT_FIELDS = ("prediction_id", "label", "label_time")
"""Fields with a meaning of their own, of every request to the API and of every report of labels."""
LONGEST_NAME = 63
LONGEST_VIEW = LONGEST_NAME - 9
"""A view's table has the view's name and 8 characters of its fingerprint."""
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
_WORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window
with
"""
SQL_WORDS = frozenset(_WORDS.split())
"""What PostgreSQL takes for no name unless it is quoted."""


def refuse_name(what: str, name: str, longest: int = LONGEST_NAME) -> None:
    """Raise unless PostgreSQL takes a name as it stands, wherever it stands.

    Raises
    ------
    DefinitionError
        Saying how to name it, and how a source may go on calling it.

    Examples
    --------
    >>> refuse_name("Feature", "order")
    Traceback (most recent call last):
        ...
    feature_store.errors.DefinitionError: Feature 'order' is a word of SQL. Call it 'order_' or ...
    """
    rename = "let 'source.rename' say what the source calls it"
    if name in SQL_WORDS:
        raise DefinitionError(
            f"{what} '{name}' is a word of SQL. Call it '{name}_' or so; {rename}."
        )
    if not IDENTIFIER.fullmatch(name) or len(name) > longest:
        raise DefinitionError(
            f"{what} '{name}' is no name here; expected at most {longest} lower-case letters, "
            f"digits and underscores, not beginning with a digit. Call it otherwise; {rename}."
        )

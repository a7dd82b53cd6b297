"""What ``list`` and ``describe`` tell of lookups and arrays."""

from __future__ import annotations

import pytest

from configs.settings import load_settings
from feature_store.command_line.definitions import lookups_table, view_facts
from feature_store.command_line.facts import columns_of, everything_of, facts_of, kind_of, values_of
from feature_store.command_line.names import referred
from feature_store.definitions.view import FeatureView
from feature_store.errors import UnknownFeature
from feature_store.offline.tables import table_name
from tests.worlds.accounts import SCHEMA, VIEW

SETTINGS = load_settings()


def described(reference: str) -> dict[str, object]:
    view, column = referred(reference, (VIEW,))
    assert isinstance(view, FeatureView)
    assert column is not None
    return everything_of(view, column, SETTINGS)


def test_every_column_is_listed_once_as_people_know_it() -> None:
    listed = {column.name: (kind_of(column), values_of(column)) for column in columns_of(VIEW)}
    assert listed == {
        "age": ("integer", "0 to 120"),
        "city": ("category", "the first 10 words that come"),
        "member": ("boolean", "true or false"),
        "taste": ("array of 4", "any"),
        "lasted_days": ("number", "any"),
        "balance": ("lookup: float64", "any"),
        "account": ("lookup: int64", "any"),
        "nick": ("lookup: string", "any"),
        "opened": ("lookup: timestamp", "any"),
        "closed": ("lookup: timestamp", "any"),
    }


def test_a_lookup_is_described_with_its_type_its_marks_and_where_it_lies() -> None:
    balance = described("accounts:balance")
    assert (
        balance.items()
        >= {
            "lookup": "balance",
            "type": "float64",
            "unit": "EUR",
            "protected": False,
            "missing_marks": ["?"],
            "description": "What is there.",
            "model_takes": "the nearest float32",
            "offline_column": f"{table_name(SCHEMA)}.balance double precision",
            "readable_column": "accounts.balance",
        }.items()
    )
    opened = described("opened")
    assert opened["dependants"] == opened["all_dependants"] == ["lasted_days"]
    assert "behind the vector" in str(opened["online_bytes"])
    assert described("lasted_days")["all_inputs"] == ["opened", "closed"]


def test_an_array_is_described_as_a_whole() -> None:
    taste = described("accounts:taste")
    assert (taste["array"], taste["size"], taste["position"]) == ("taste", 4, 3)
    assert taste["readable_column"] == "accounts.taste real[]"
    with pytest.raises(UnknownFeature, match="Did you mean 'taste'"):
        referred("accounts:taste_0", (VIEW,))
    with pytest.raises(
        UnknownFeature, match=r"'balanc' is no view and no feature. Did you mean 'b"
    ):
        referred("balanc", (VIEW,))


def test_a_view_shows_its_lookups() -> None:
    facts = view_facts(VIEW, SETTINGS)
    assert facts["lookups"] == [facts_of(column) for column in SCHEMA.exact]
    [table] = lookups_table(VIEW)
    assert table.rows[0] == (
        *("balance", "float64", "EUR", "", "?", "the nearest float32", "What is there."),
    )
    assert [row[0] for row in table.rows] == ["balance", "account", "nick", "opened", "closed"]

"""A catalogue joined by key: what it lacks is missing, what it has twice is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.errors import SourceError
from tests.worlds.sources import ReferenceWorld, person


@pytest.fixture
def world(tmp_path: Path) -> ReferenceWorld:
    made = ReferenceWorld(tmp_path)
    made.add(person(1), person(2, workclass="Private"), person(3, workclass="Never-worked"))
    made.add(person(4, workclass=None))
    return made


def refusal(world: ReferenceWorld) -> str:
    with pytest.raises(SourceError) as caught:
        list(world.source().read())
    return str(caught.value)


def test_columns_come_by_key_and_an_absent_key_gives_missing_values(world: ReferenceWorld) -> None:
    [batch] = world.source().read()
    assert batch.columns["user_id"].to_list() == ["1", "2", "3", "4"]
    assert batch.columns["sector"].to_list() == ["public", "private", None, None]


def test_a_key_that_the_catalogue_has_twice_is_refused_with_both_places(
    world: ReferenceWorld,
) -> None:
    with world.catalogue.open("a") as file:
        file.write("State-gov,federal\n")
    assert refusal(world) == (
        "The catalogue has the key 'State-gov' 2 times: catalogue.csv 2, catalogue.csv 4. "
        "Which one is meant cannot be told; remove the others."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind,sector\na,b\n", "catalogue.csv has no column 'workclass' to join the catalogue by"),
        ("workclass,age\nPrivate,1\n", "people.csv and its catalogue both have a column 'age'"),
        ("workclass,sector\n", "The catalogue 'catalogue' has no rows"),
        (
            "workclass,sector\nPrivate\n",
            "is bad at 2: the row has 1 fields, expected 2. Mend it",
        ),
    ],
)
def test_a_catalogue_that_cannot_be_joined_says_why(
    world: ReferenceWorld, text: str, expected: str
) -> None:
    world.catalogue.write_text(text)
    assert expected in refusal(world)

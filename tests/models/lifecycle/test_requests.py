"""What a difference between the registry and the record means."""

import pytest

from models.lifecycle.requests import RegistryState, find_requests

EXPECTED = RegistryState(
    {1: "Production", 2: "Production", 3: "None", 4: "Staging", 5: "None"},
    {"production": 1, "challenger": 2},
)


def asked(stages=None, without=(), **aliases) -> list[tuple[str, int, str]]:
    """What follows from some stages and aliases that were changed."""
    kept = {a: v for a, v in {**EXPECTED.aliases, **aliases}.items() if a not in without}
    return [
        (request.kind, request.version, request.what)
        for request in find_requests(
            EXPECTED, RegistryState({**EXPECTED.stages, **(stages or {})}, kept)
        )
    ]


def test_a_registry_that_agrees_asks_for_nothing():
    assert asked() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"production": 3}, ("deploy", 3, "alias production set")),
        ({"stages": {3: "Production"}}, ("deploy", 3, "moved to Production")),
        # What MLflow does when it archives the others; and what people do who do both.
        (
            {"stages": {3: "Production", 1: "Archived", 2: "Archived"}},
            ("deploy", 3, "moved to Production"),
        ),
        ({"stages": {3: "Production"}, "production": 3}, ("deploy", 3, "alias production set")),
        ({"production": 2}, ("deploy", 2, "alias production set")),
        ({"production": 99}, ("deploy", 99, "alias production set")),
        ({"without": ["production"]}, ("refuse", 1, "alias production removed")),
        ({"stages": {3: "Production", 5: "Production"}}, ("refuse", 3, "moved to Production")),
        ({"challenger": 3}, ("test", 3, "alias challenger set")),
        ({"challenger": 1}, ("refuse", 1, "alias challenger set")),
        ({"without": ["challenger"]}, ("stop_test", 2, "alias challenger removed")),
        ({"stages": {2: "Archived"}}, ("stop_test", 2, "archived")),
        ({"stages": {1: "Archived"}}, ("refuse", 1, "moved to Archived")),
        ({"stages": {1: "Staging"}}, ("refuse", 1, "moved to Staging")),
        ({"stages": {3: "Staging"}}, ("stage", 3, "moved to Staging")),
        ({"stages": {3: "Archived"}}, ("stage", 3, "moved to Archived")),
        ({"stages": {4: "None"}}, ("refuse", 4, "moved to None")),
    ],
)
def test_each_change_is_one_wish(change, expected):
    assert asked(**change) == [expected]


def test_other_aliases_are_nobodys_business():
    assert asked(newest=5) == []


def test_several_changes_are_several_wishes():
    assert asked(stages={3: "Staging", 4: "Archived"}, without=["challenger"]) == [
        ("stop_test", 2, "alias challenger removed"),
        ("stage", 3, "moved to Staging"),
        ("stage", 4, "moved to Archived"),
    ]


def test_what_differs_because_of_a_wish_is_put_back_with_it():
    seen = RegistryState({**EXPECTED.stages, 3: "Production", 1: "Archived"}, {"challenger": 2})
    [request] = find_requests(
        EXPECTED, RegistryState(seen.stages, {"challenger": 2, "production": 3})
    )
    assert (request.versions, request.aliases) == ({1, 3}, {"production"})

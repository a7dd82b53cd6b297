"""The model card: one page, complete, true to the numbers, and nothing loaded from elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from models.lineage import Recipe
from models.reports.evaluation_report import NO_EXTRAS, Extras, evaluate_in_detail
from models.reports.model_card import model_card
from models.training.learning_curve import learning_curve

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that tags close in order, and gathers titles and attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.titles: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        of_shapes = [value for name, value in attrs if name == "xlink:href"]
        self.loads += [value for value in of_shapes if not value.startswith(("#", "data:"))]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


@pytest.fixture(scope="module")
def page(record):
    return (record.files / "model_card.html").read_text()


def test_it_is_whole_and_loads_nothing(page):
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.loads == []
    assert "url(" not in page
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    assert len(page) < 500_000


def test_it_has_every_section_and_both_colour_schemes(page):
    parser = Page()
    parser.feed(page)
    assert parser.titles == [
        "What to know before using it",
        "How good it is",
        "Group by group",
        "Fairness",
        "What features add",
        "Data",
        "Where it comes from",
    ]
    assert "prefers-color-scheme: dark" in page


def test_its_numbers_are_those_of_the_run(page, trained, record, rows, training):
    for name in ("accuracy", "roc_auc", "log_loss", "f1_score", "brier", "ece"):
        assert f"{trained.metrics[name]:.4f}" in page, name
    recipe = Recipe.of(rows, training)
    for part in (recipe.dataset.digest, recipe.training_key, record.tags["schema_fingerprint"]):
        assert part in page
    assert f"{len(trained.split.test):,} test rows" in page
    for name in trained.split.test.features.schema.names:
        assert name in page


def test_it_says_what_is_weak(page):
    assert re.search(r"features tell of protected attributes; they\s+make up \d+%", page)
    assert "It ranks worst among" in page
    assert "slices are too small to be judged" in page


def test_curve_and_comparison_appear_where_they_were_asked_for(
    trained, rows, masker, training, record
):
    quick = training.model_copy(
        update={"xgboost": training.xgboost.model_copy(update={"n_estimators": 5})}
    )
    curve = learning_curve(trained.split, masker, quick)
    assert len(curve) == 5
    assert [p.rows for p in curve] == sorted(p.rows for p in curve)
    assert curve[-1].rows == len(trained.split.train)
    extras = Extras(curve=curve)
    judged = evaluate_in_detail(trained.model, trained.split, masker, training, extras)
    page = model_card(trained, Recipe.of(rows, training), judged, record.started_at)
    assert "Would more rows help?" in page
    assert extras != NO_EXTRAS


def test_a_learning_curve_ends_when_its_time_is_up(trained, masker, training):
    quick = training.model_copy(
        update={"xgboost": training.xgboost.model_copy(update={"n_estimators": 2})}
    )
    ticking = iter(range(0, 10_000, 20))
    curve = learning_curve(trained.split, masker, quick, clock=lambda: next(ticking))
    assert 0 < len(curve) < 5  # every look at this clock costs 20 of the 120 seconds


def test_what_was_judged_is_kept_as_json_too(record):
    found = json.loads((record.files / "evaluation.json").read_bytes())
    by = {"sex", "race", "age_band", "education_group", "country_region"}
    assert {each["by"] for each in found["slices"]} == by
    assert found["headline"]["roc_auc"]["low"] < found["headline"]["roc_auc"]["value"]
    assert record.metrics["demographic_parity_difference_sex"] == pytest.approx(
        next(e for e in found["fairness"] if e["by"] == "sex")["demographic_parity_difference"]
    )

"""Settings: which source wins, and what a user reads when one cannot be used."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from configs.errors import SettingsError
from configs.settings import ROOT, SECTIONS, load_settings


def training_file(folder: Path, **changes: object) -> dict[str, Path]:
    """Write a training section that differs from the shipped one."""
    values = yaml.safe_load((ROOT / "configs" / "training_config.yaml").read_text())
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return {"training": path}


def refusal(**flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**flags)
    return str(caught.value)


def test_the_shipped_files_load_and_nothing_is_configured_elsewhere() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.redis_url, settings.mlflow_tracking_uri) == (None,) * 3
    assert settings.var_dir == ROOT / "var"
    assert settings.model_name == "income-predictor"
    assert len(settings.feature.source.columns) == 15


def test_a_flag_beats_the_environment_which_beats_yaml_which_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = training_file(tmp_path)
    values = yaml.safe_load(files["training"].read_text())
    del values["seed"]
    files["training"].write_text(yaml.safe_dump(values))
    assert load_settings(files).training.seed == 7
    files = training_file(tmp_path, seed=1)
    assert load_settings(files).training.seed == 1
    monkeypatch.setenv("FTI_TRAINING__SEED", "2")
    assert load_settings(files).training.seed == 2
    assert load_settings(files, training={"seed": 3}).training.seed == 3


def test_a_source_adds_to_a_section_without_replacing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_DEPLOYMENT__API__PORT", "9000")
    settings = load_settings(deployment={"ab_test": {"challenger_share": 0.5}})
    assert settings.deployment.api.port == 9000
    assert settings.deployment.ab_test.challenger_share == 0.5
    assert settings.deployment.prediction_texts == ("<=50K", ">50K")


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("DATABASE_URL", "database_url"),
        ("REDIS_URL", "redis_url"),
        ("MLFLOW_TRACKING_URI", "mlflow_tracking_uri"),
        ("MODEL_NAME", "model_name"),
    ],
)
def test_common_names_are_read_too_and_ours_win(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "common")
    assert getattr(load_settings(), name) == "common"
    monkeypatch.setenv(f"FTI_{variable}", "ours")
    assert getattr(load_settings(), name) == "ours"
    assert getattr(load_settings(**{name: "flag"}), name) == "flag"


def test_an_unknown_key_names_itself_its_value_and_the_nearest_known_one() -> None:
    assert refusal(training={"sed": 3}) == (
        "Setting 'training.sed' is not known (value: 3). Did you mean 'training.seed'?"
    )
    message = refusal(training={"masking": {"zzz": 3}})
    assert message.startswith("Setting 'training.masking.zzz' is not known (value: 3). Known: ")
    assert "all_missing_share" in message


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_TRAINNG__SEED", "3")
    message = refusal()
    assert "FTI_TRAINNG__SEED is not a known setting (value: '3')" in message
    assert "FTI_TRAINING" in message


def test_an_unknown_nested_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_TRAINING__SED", "3")
    assert "'training.sed' is not known (value: '3')" in refusal()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"training": {"seed": -1}},
            "'training.seed' has the value -1: .*greater than or equal to",
        ),
        ({"training": {"seed": "x"}}, "'training.seed' has the value 'x': .*integer"),
        ({"training": {"model": "svm"}}, "'training.model' has the value 'svm': .*'xgboost'"),
        ({"deployment": {"api": {"port": 0}}}, "'deployment.api.port' has the value 0: "),
        ({"deployment": {"ab_test": {"challenger_share": 2}}}, "challenger_share' has the value 2"),
    ],
)
def test_a_bad_value_names_key_value_and_expectation(
    flags: dict[str, object], expected: str
) -> None:
    with pytest.raises(SettingsError, match=expected):
        load_settings(**flags)


def test_every_problem_is_told_at_once() -> None:
    message = refusal(training={"seed": -1, "sed": 3})
    assert len(message.splitlines()) == 2


def test_a_value_that_is_not_json_where_a_section_is_expected_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FTI_TRAINING", "seed=3")
    assert "FTI_SECTION__KEY=value" in refusal()


def test_a_missing_key_says_where_to_give_it(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text("seed: 3")
    with pytest.raises(
        SettingsError, match=r"'training\.start' is missing; .* FTI_TRAINING__START"
    ):
        load_settings({"training": path})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [1", "is not valid YAML"), ("- 1", "holds a list; expected 'key: value' lines")],
)
def test_a_bad_file_is_named(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings({"training": path})
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Cannot read the settings file .*absent\.yaml"):
        load_settings({"feature": tmp_path / "absent.yaml"})


def test_times_without_a_zone_are_utc_and_ranges_are_ordered() -> None:
    settings = load_settings(training={"start": "2021-01-01", "end": "2021-06-01T02:00:00+02:00"})
    assert settings.training.start == datetime(2021, 1, 1, tzinfo=UTC)
    assert settings.training.end == datetime(2021, 6, 1, tzinfo=UTC)
    backwards = {"event_time": {"start": "2022-01-01", "end": "2021-01-01"}}
    assert "end must be after start" in refusal(feature=backwards)


def test_settings_cannot_be_changed_after_loading() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.training.seed = 3


def test_each_section_has_a_file() -> None:
    for section in SECTIONS:
        assert (ROOT / "configs" / f"{section}_config.yaml").exists()


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        ([0.1, 0.05], "each share of a ramp must be larger than the one before"),
        ([0.1, 1.0], "the shares of a ramp lie between 0 and 1"),
    ],
)
def test_a_ramp_climbs_between_0_and_1(ramp: list[float], expected: str) -> None:
    assert expected in refusal(deployment={"ab_test": {"ramp": ramp}})


def test_the_shipped_test_may_score_in_pairs_and_decides_by_documented_levels() -> None:
    test = load_settings().deployment.ab_test
    assert (test.challenger_share, test.label_influence) == (0.10, False)
    assert (test.alpha, test.guardrail_alpha, test.ratio_alpha) == (0.05, 0.05, 0.01)
    assert test.ramp == (0.01, 0.05, 0.10, 0.25, 0.50)

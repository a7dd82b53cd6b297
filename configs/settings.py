"""The typed, frozen settings: flag > environment (``FTI_…``) > YAML > default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as PydanticSettingsError,
)

from configs.deployment_config import DeploymentConfig
from configs.errors import SettingsError
from configs.feature_config import FeatureConfig
from configs.monitoring_config import MonitoringConfig
from configs.problems import explain, value_shown
from configs.training_config import TrainingConfig

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("feature", "training", "deployment", "monitoring")
ENVIRONMENT_PREFIX = "FTI_"


class Settings(BaseSettings):
    """Everything that can be set, read once at the edge of a program by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        populate_by_name=True,
    )

    database_url: str | None = Field(
        None, validation_alias=AliasChoices("FTI_DATABASE_URL", "DATABASE_URL")
    )
    database_role: Literal["pipelines", "api", "owner"] = Field(
        "pipelines",
        description="as whom a program uses the PostgreSQL of this machine; DATABASE_URL says it "
        "for another one",
    )
    mlflow_database_url: str | None = Field(
        None, validation_alias=AliasChoices("FTI_MLFLOW_DATABASE_URL", "MLFLOW_DATABASE_URL")
    )
    airflow_database_url: str | None = Field(
        None, validation_alias=AliasChoices("FTI_AIRFLOW_DATABASE_URL", "AIRFLOW_DATABASE_URL")
    )
    redis_url: str | None = Field(None, validation_alias=AliasChoices("FTI_REDIS_URL", "REDIS_URL"))
    mlflow_tracking_uri: str | None = Field(
        None, validation_alias=AliasChoices("FTI_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")
    )
    model_name: str = Field(
        "income-predictor", validation_alias=AliasChoices("FTI_MODEL_NAME", "MODEL_NAME")
    )
    var_dir: Path = Field(ROOT / "var", description="everything that the system writes locally")
    feature: FeatureConfig
    training: TrainingConfig
    deployment: DeploymentConfig
    monitoring: MonitoringConfig


class _SectionFiles(PydanticBaseSettingsSource):
    """The four YAML files, one a section: the lowest source above the defaults."""

    def __init__(self, settings_cls: type[BaseSettings], files: Mapping[str, Path]) -> None:
        super().__init__(settings_cls)
        self.files = files

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return {section: _read_yaml(path) for section, path in self.files.items()}


def load_settings(config_files: Mapping[str, Path] | None = None, **flags: Any) -> Settings:
    """Read the settings once, at the edge of a program.

    Parameters
    ----------
    config_files
        Section name (``feature``, ``training``, ``deployment``, ``monitoring``) to the YAML file
        that replaces ``configs/{section}_config.yaml``.
    flags
        Values from a command line, nested as dicts (``training={"seed": 3}``); they win over the
        environment, which wins over YAML.

    Raises
    ------
    SettingsError
        If a key is unknown or a value unusable; the message names key, value and expectation.

    Examples
    --------
    >>> load_settings(training={"seed": 3}).training.seed
    3
    >>> load_settings(training={"sed": 3})
    Traceback (most recent call last):
    ...
    configs.errors.SettingsError: Setting 'training.sed' is not known (value: 3). Did you mean ...
    """
    files = {section: ROOT / "configs" / f"{section}_config.yaml" for section in SECTIONS}
    files |= config_files or {}

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, _SectionFiles(settings_cls, files)

    _refuse_unknown_environment(os.environ)
    try:
        return Loaded(**flags)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(error, Settings, ENVIRONMENT_PREFIX))) from error
    except PydanticSettingsError as error:
        raise SettingsError(f"{error}. Write a nested value as FTI_SECTION__KEY=value.") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"Cannot read the settings file {path}: {error.strerror}. Name an existing YAML file."
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path} is not valid YAML: {str(error).replace(chr(10), ' ')}"
        ) from error
    if not isinstance(values or {}, dict):
        raise SettingsError(f"{path} holds a {type(values).__name__}; expected 'key: value' lines.")
    return values or {}


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name.split("__")[0].upper() not in known:
            raise SettingsError(
                f"Environment variable {name} is not a known setting "
                f"(value: {value_shown(name, value)}). "
                f"Known: {', '.join(sorted(known))}; nested as FTI_TRAINING__SEED."
            )

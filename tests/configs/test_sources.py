"""The settings of a source: of three kinds, each with messages that help, none with a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import SettingsError
from configs.settings import ROOT, load_settings
from configs.sources import FileSourceConfig, HttpSourceConfig, SqlSourceConfig

FILES = {"files": [{"path": "a.csv"}]}
SQL = {"type": "sql", "table": "people", "key_column": "id"}
HTTP = {"type": "http", "url": "https://x/y", "columns": ["a"], "key_column": "id"}


def source(folder: Path, **values: Any) -> Any:
    config = yaml.safe_load((ROOT / "configs" / "feature_config.yaml").read_text())
    path = folder / "feature.yaml"
    path.write_text(yaml.safe_dump(config | {"source": values}))
    return load_settings({"feature": path}).feature.source


def test_the_type_chooses_the_kind_and_files_are_meant_without_one(tmp_path: Path) -> None:
    assert isinstance(source(tmp_path, **FILES), FileSourceConfig)
    assert isinstance(source(tmp_path, **SQL), SqlSourceConfig)
    assert isinstance(source(tmp_path, **HTTP), HttpSourceConfig)
    catalogue = {"table": {"type": "sql", "table": "kinds"}, "on": "kind"}
    assert source(tmp_path, **FILES, reference=catalogue).reference.table.table == "kinds"


def test_the_environment_reaches_into_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_FEATURE__SOURCE__KEY_COLUMN", "id")
    assert load_settings().feature.source.key_column == "id"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (FILES | {"type": "ftp"}, "'feature.source.type' has the value 'ftp': expected one of 'fi"),
        (SQL | {"tabel": 1}, "'feature.source.tabel' is not known (value: 1). Did you mean 'featu"),
        ({"files": [{"pth": 1}]}, "'feature.source.files.0.pth' is not known (value: 1). Did you"),
        (FILES | {"missing": "n/a"}, "'missing' belongs to the definition of the features"),
        ({"files": []}, "'feature.source.files' has the value []"),
        ({"type": "sql", "table": "t"}, "'feature.source': needs 'key_column'"),
        (SQL | {"query": "SELECT 1"}, "'feature.source': give 'table' or 'query', and not both"),
        (SQL | {"table": "t; DROP TABLE t"}, "'feature.source.table' has the value 't; DROP"),
        (HTTP | {"since_param": "s"}, "'feature.source': 'since_param' needs 'cursor_column'"),
        (FILES | {"label_column": "y"}, "'feature.source': 'label_column' needs 'label_values'"),
        (
            FILES | {"reference": {"table": {"type": "sqll"}, "on": "x"}},
            "'feature.source.reference.table.type' has the value 'sqll'",
        ),
    ],
)
def test_a_wrong_source_is_named_as_it_is_written(
    tmp_path: Path, values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        source(tmp_path, **values)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        SQL | {"url_env": "postgresql://me:hunter2@host/db"},
        SQL | {"password": "hunter2"},
        HTTP | {"auth_env": "hunter2-token"},
        HTTP | {"url": "https://me:hunter2@host/"},
        HTTP | {"token": "hunter2"},
    ],
)
def test_a_secret_that_was_written_into_a_file_is_not_repeated(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError) as caught:
        source(tmp_path, **values)
    assert "hunter2" not in str(caught.value)
    assert "(hidden)" in str(caught.value)

"""What Feast may delete: ``feast teardown``, and ``feast apply`` of a repository that lost a view.

Feast deletes without a question. Rows that a deployment reads are not deleted, and neither are the
registrations of other projects, unless ``feature_store.yaml`` insists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from click import ClickException
from feast import FeatureStore
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.repo_config import RepoConfig

from feature_store.errors import VersionInUse
from feature_store.feast_plugin import connections
from feature_store.feast_plugin.definitions import FINGERPRINT
from feature_store.offline import events as activity_events

INSIST = (
    "To delete all the same, set `delete_what_is_in_use: true` under `online_store` in "
    "feature_store.yaml."
)


class StillInUse(VersionInUse, ClickException):
    """What Feast is about to delete serves somebody; Feast's command shows it as one line."""


def holds_rows(table: Any) -> bool:
    """Whether a registered view is one of ours, of whichever version; its code may be gone."""
    source = getattr(table, "batch_source", None)
    if FINGERPRINT not in table.tags or not isinstance(source, PostgreSQLSource):
        return False
    return source.get_table_query_string() in (table.name, activity_events.TABLE)


def refuse_what_is_read(config: RepoConfig, names: Sequence[str]) -> None:
    """Refuse to delete the online rows of views that a deployment reads.

    Raises
    ------
    StillInUse
        With the readers, and how to insist.
    """
    if not names or config.online_store.delete_what_is_in_use:
        return
    if config.project != connections.settings_of(config).feature.project:
        return  # deployments read the rows of the project that the settings name
    versions = connections.offline_store(config.offline_store.url).versions
    for name in names:
        by_version = [versions.readers(version) for version in versions.versions(name)]
        readers = sorted({reader for readers in by_version for reader in readers})
        if readers:
            raise StillInUse(
                f"The online rows of '{name}' are read by {', '.join(readers)}; nothing was "
                f"deleted. Deploy models that do not read them first. {INSIST}"
            )


def refuse_other_projects(config: RepoConfig) -> None:
    """Refuse a teardown where Feast would delete other projects from the registry as well.

    Raises
    ------
    StillInUse
        With the projects, and how to delete this one alone.
    """
    if config.online_store.delete_what_is_in_use:
        return
    known = {project.name for project in FeatureStore(config=config).list_projects()}
    if others := sorted(known - {config.project}):
        raise StillInUse(
            f"Feast's teardown deletes every project of its registry, and this one is also that of "
            f"{', '.join(others)}; nothing was deleted. `feast projects delete {config.project}` "
            f"deletes one project. {INSIST}"
        )

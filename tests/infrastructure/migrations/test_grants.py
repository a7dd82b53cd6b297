"""What each role may do, and what must fail, against the PostgreSQL that everything uses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from configs.settings import ROOT, Settings
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.offline.tables import table_name
from feature_store.offline.versions import VersionCatalogue
from feature_store.offline_store import OfflineStore
from infrastructure import embedded
from infrastructure.errors import ServiceError
from infrastructure.migrations import migrate
from infrastructure.migrations.grants import API, OWNER, PIPELINES, ROLES
from infrastructure.operations.backup import backup, restore
from infrastructure.servers import postgres, services
from infrastructure.servers.roles import DATABASES, MOVED, move_mlflow, url_as
from tests.worlds.databases import database_of, url_for
from tests.worlds.rows import random_matrix

NOW = datetime(2026, 11, 26, tzinfo=UTC)

SERVER_FILES = [
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE TEMP TABLE lines (line text); COPY lines FROM PROGRAM 'id'",
    "CREATE TEMP TABLE lines (line text); COPY lines FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/fti-never'",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/fti-never')",
    "ALTER SYSTEM SET log_statement = 'all'",
    "CREATE ROLE another SUPERUSER",
    "CREATE DATABASE another",
    "SELECT rolpassword FROM pg_authid",
    "SET ROLE fti",
]
FORBIDDEN = {
    PIPELINES: [
        "DROP TABLE predictions",
        "ALTER TABLE labels ADD COLUMN more int",
        "TRUNCATE predictions",
        "UPDATE fti_migrations SET version_num = '0001'",
        "CREATE SCHEMA another",
        "SET ROLE fti_owner",
    ],
    API: [
        "SELECT * FROM feature_views",
        "SELECT * FROM quarantine",
        "SELECT * FROM profile_changes",
        "SELECT * FROM alerts",
        "SELECT * FROM model_stage_history",
        "SELECT * FROM fti_migrations",
        f"SELECT * FROM {table_name(MODEL_VIEW.schema)}",
        "INSERT INTO deployments SELECT * FROM deployments",
        "UPDATE deployments SET reason = ''",
        "DELETE FROM predictions",
        "UPDATE predictions SET decision = 1",
        "DELETE FROM labels",
        "UPDATE labels SET label = 1",
        "CREATE TABLE another (n int)",
        "CREATE TEMP TABLE another (n int)",
        "DROP TABLE labels",
        "CREATE SCHEMA another",
        "SET ROLE fti_pipelines",
    ],
}
ALLOWED = {
    OWNER: ["SELECT * FROM predictions", "ALTER TABLE labels ADD COLUMN more int"],
    PIPELINES: [
        "INSERT INTO watermarks VALUES ('v', 'f', 's', '1', now())",
        "CREATE TABLE income_0815 (user_id bigint); DROP TABLE income_0815",
        "CREATE TABLE tuning.trial (n int)",
        "CREATE TEMP TABLE staged (n int)",
        "DELETE FROM alerts",
    ],
    API: [
        "SELECT * FROM deployments",
        "SELECT * FROM predictions",
        (
            "INSERT INTO labels (user_id, label, label_time, created_timestamp) "
            "VALUES (1, 1, now(), now())"
        ),
        "INSERT INTO shipped_segments VALUES ('s', 1)",
    ],
}


@pytest.fixture
def url_of(settings: Settings, database_url: str) -> dict[str, str]:
    """URLs of a database with all tables, the pipelines' table of features among them, by role."""
    matrix, postgres = random_matrix(3), Postgres(database_url)
    VersionCatalogue(postgres).register(matrix.schema, MODEL_VIEW.entity)
    assert OfflineStore(postgres).append(matrix, MODEL_VIEW.entity, NOW) == 3
    return {
        OWNER: url_for(settings, database_url, "owner"),
        PIPELINES: database_url,
        API: url_for(settings, database_url, "api"),
        "admin": url_for(settings, database_url, "admin"),
    }


def test_each_role_may_do_its_work_and_nothing_else(url_of: dict[str, str]) -> None:
    for role, statements in ALLOWED.items():
        for statement in statements:
            execute(url_of[role], statement)
    for role in (OWNER, PIPELINES, API):
        for statement in SERVER_FILES + FORBIDDEN.get(role, []):
            assert is_refused(url_of[role], statement), (role, statement)


def test_no_part_is_a_superuser_or_makes_roles(url_of: dict[str, str]) -> None:
    query = (
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'fti\\_%' "
        "AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
    )
    assert execute(url_of[OWNER], query) == []


@pytest.mark.parametrize(("name", "other"), [("mlflow", "airflow"), ("airflow", "mlflow")])
def test_a_program_of_others_sees_nothing_of_ours_and_we_nothing_of_its(
    settings: Settings, name: str, other: str
) -> None:
    its = embedded.own_databases(settings)[name]
    assert execute(its, "SELECT current_user") == [(DATABASES[name],)]
    execute(its, f"CREATE TABLE IF NOT EXISTS {name}.mine (n int)")
    for statement in SERVER_FILES:
        assert is_refused(its, statement), statement
    for elsewhere in ("fti", other):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            execute(database_of(its, elsewhere), "SELECT 1")
    for role in ("pipelines", "api"):
        ours = settings.model_copy(update={"database_role": role})
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            execute(database_of(embedded.postgres_url(ours), name), "SELECT 1")


def test_a_server_that_an_older_version_prepared_gets_the_role_it_lacks(own: Settings) -> None:
    embedded.postgres_url(own)
    admin = embedded.admin_url(own)
    execute(admin, "DROP DATABASE airflow; DROP ROLE fti_airflow")
    folder = own.var_dir / "postgres"
    (folder / "password-fti_airflow").unlink()
    (folder / postgres.PREPARED).write_text("")  # as that version left it
    its = str(embedded.airflow_database_url(own))
    assert execute(its, "SELECT current_user, to_regnamespace('airflow')::text") == [
        ("fti_airflow", "airflow")
    ]


def test_databases_of_others_are_in_a_backup_and_come_back(own: Settings, tmp_path: Path) -> None:
    owner = embedded.postgres_url(embedded.as_owner(own))
    for name, url in embedded.own_databases(own).items():
        execute(url, f"CREATE TABLE {name}.records AS SELECT '{name}' AS whose")
    folder = backup(owner, tmp_path / "none", tmp_path / "backup", NOW, embedded.own_databases(own))
    with pytest.raises(ServiceError, match=r"has a database airflow beside ours.*AIRFLOW_DATABASE"):
        restore(folder, owner, tmp_path / "none", {"mlflow": embedded.own_databases(own)["mlflow"]})
    embedded.delete(own)
    owner = embedded.postgres_url(embedded.as_owner(own))
    restore(folder, owner, tmp_path / "none", embedded.own_databases(own))
    for name, url in embedded.own_databases(own).items():
        assert execute(url, f"SELECT whose FROM {name}.records") == [(name,)]


def test_what_the_api_may_do_is_restored_with_a_backup(
    url_of: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    folder = backup(url_of[OWNER], tmp_path / "none", tmp_path / "backup", NOW)
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(url_of["admin"], f"CREATE DATABASE {name} OWNER {OWNER}")
    try:
        restore(folder, database_of(url_of[OWNER], name), tmp_path / "restored")
        query = (
            "SELECT relname, pg_get_userbyid(relowner), relacl::text FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') ORDER BY 1"
        )
        after = execute(database_of(url_of[OWNER], name), query)
        assert after == execute(url_of[OWNER], query)
        owners = {relation: owner for relation, owner, _ in after}
        assert owners[table_name(MODEL_VIEW.schema)] == owners[MODEL_VIEW.name] == PIPELINES
        execute(database_of(url_of[API], name), "SELECT * FROM predictions")
    finally:
        execute(url_of["admin"], f"DROP DATABASE {name} WITH (FORCE)")


def older_server(own: Settings) -> str:
    """A server as the version before roles left it, running: everything is its administrator's."""
    before = replace(postgres.service(own.var_dir), complete=lambda url: migrate(url, "0004"))
    url = services.ensure(before, own).url
    matrix, stores = random_matrix(3), Postgres(url)
    VersionCatalogue(stores).register(matrix.schema, MODEL_VIEW.entity)
    OfflineStore(stores).append(matrix, MODEL_VIEW.entity, NOW)
    execute(url, "CREATE SCHEMA tuning; CREATE TABLE tuning.trials (n int)")
    execute(url, "CREATE TABLE mlflow.alembic_version (version_num text)")
    execute(url, "CREATE TABLE mlflow.experiments (experiment_id serial PRIMARY KEY, name text)")
    execute(url, "INSERT INTO mlflow.alembic_version VALUES ('1b5f0d9ad7c1')")
    execute(
        url, "INSERT INTO mlflow.experiments (name) SELECT 'e' || n FROM generate_series(1, 9) n"
    )
    return url


def test_a_server_of_an_older_version_is_handed_over_while_it_runs(own: Settings) -> None:
    admin = older_server(own)
    pid = services.find("postgres", own).pid

    pipelines = embedded.postgres_url(own)
    assert services.find("postgres", own).pid == pid
    assert execute(pipelines, "SELECT current_user, version_num FROM fti_migrations") == [
        (PIPELINES, "0009")
    ]
    table = table_name(MODEL_VIEW.schema)
    assert execute(pipelines, f"SELECT count(*) FROM {table}") == [(3,)]
    execute(pipelines, f"DROP VIEW {MODEL_VIEW.name}; DROP TABLE {table}; DROP TABLE tuning.trials")
    owner = embedded.postgres_url(embedded.as_owner(own))
    execute(owner, "ALTER TABLE predictions ADD COLUMN more int; DROP TABLE quarantine")

    mlflow = str(embedded.mlflow_database_url(own))
    assert move_mlflow(admin, mlflow)
    assert execute(mlflow, "SELECT count(*), max(name) FROM mlflow.experiments") == [(9, "e9")]
    execute(mlflow, "INSERT INTO mlflow.experiments (name) VALUES ('e10')")
    assert execute(admin, f"SELECT count(*) FROM {MOVED}.experiments") == [(9,)]
    assert not move_mlflow(admin, mlflow)


def test_where_nobody_may_make_roles_the_rest_is_done_and_they_are_named(own: Settings) -> None:
    before = replace(postgres.service(own.var_dir), complete=lambda url: None)
    admin = services.ensure(before, own).url
    execute(admin, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
    execute(admin, "CREATE DATABASE managed OWNER plain")
    url = database_of(url_as(admin, "plain", "plain"), "managed")

    def say(url: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infrastructure", *words],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    done = say(url, "migrate")
    assert done.returncode == 0
    assert "→ 0009" in done.stdout
    assert f"nothing was granted to them: {PIPELINES}, {API}. An administrator" in done.stdout
    refused = say(url, "roles")
    assert refused.returncode == 1
    assert re.fullmatch(r"✗ The roles cannot be made: permission denied.+\n", refused.stderr)

    # Who may make them, a superuser or not, makes them later; what is there is granted then.
    execute(admin, "ALTER ROLE plain CREATEROLE CREATEDB")
    managed = url
    passwords = {f"DATABASE_{part}_PASSWORD": part for part in ("OWNER", "PIPELINES", "API")}
    assert say(managed, "roles", **passwords).stdout.startswith(f"✓ Roles: {', '.join(ROLES)}")
    assert "was given no password" in say(managed, "roles").stdout
    execute(managed, "DELETE FROM watermarks")
    execute(url_as(managed, API, "API"), "SELECT * FROM deployments")
    execute(url_as(managed, PIPELINES, "PIPELINES"), "DELETE FROM watermarks")
    assert is_refused(url_as(managed, API, "API"), "DELETE FROM watermarks")
    assert say(url_as(managed, OWNER, "OWNER"), "migrate").stdout == (
        "✓ The tables are at revision 0009 already\n"
    )


def execute(url: str, statements: str) -> list[tuple]:
    """Run statements one by one; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = []
        for statement in statements.split("; "):
            cursor = connection.execute(statement)
            found = cursor.fetchall() if cursor.description else []
        return found


def is_refused(url: str, statements: str) -> bool:
    """Tell whether the role of a URL lacks the right to do this."""
    try:
        execute(url, statements)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False

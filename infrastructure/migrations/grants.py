"""Who may do what in the database: one role a part, and what each is granted.

===============  ================================================================================
fti_owner        owns the tables: migrations, partitions, backups
fti_pipelines    features, training, monitoring, batches: reads and writes rows; owns the tables of
                 feature views, which follow from their definitions, and the studies of tuning
fti_api          the API: reads deployments, decisions and receipts; adds receipts and labels
fti_mlflow       MLflow's, in a database of its own; has no part in this one
fti_airflow      Airflow's, likewise
===============  ================================================================================

No role is a superuser, so none reads files of the server. The grants may be repeated.
"""

from __future__ import annotations

from typing import Any

OWNER, PIPELINES, API = "fti_owner", "fti_pipelines", "fti_api"
MLFLOW, AIRFLOW = "fti_mlflow", "fti_airflow"
ROLES = (OWNER, PIPELINES, API, MLFLOW, AIRFLOW)

# A relation of somebody else is passed over: who runs this may grant what is theirs only.
GRANTS = f"""
DO $$
DECLARE
    each record;
BEGIN
    IF pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'public'), 'USAGE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        IF to_regrole('{PIPELINES}') IS NOT NULL THEN
            GRANT USAGE, CREATE ON SCHEMA public TO {PIPELINES};
        END IF;
        IF to_regrole('{API}') IS NOT NULL THEN
            GRANT USAGE ON SCHEMA public TO {API};
        END IF;
    END IF;
    IF to_regrole('{PIPELINES}') IS NOT NULL THEN
        IF to_regnamespace('tuning') IS NULL
            AND has_database_privilege(current_database(), 'CREATE') THEN
            CREATE SCHEMA tuning;
        END IF;
        IF pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'tuning'), 'USAGE') THEN
            GRANT ALL ON SCHEMA tuning TO {PIPELINES};
        END IF;
        IF pg_has_role('{PIPELINES}', 'MEMBER') THEN
            FOR each IN
                SELECT oid::regclass AS name FROM pg_class
                WHERE relkind IN ('r', 'v') AND pg_has_role(relowner, 'USAGE')
                    AND relowner <> to_regrole('{PIPELINES}')
                    AND (relnamespace = to_regnamespace('tuning')
                        OR relnamespace = 'public'::regnamespace AND relname IN (
                            SELECT table_name FROM feature_views WHERE table_name <> 'user_events'
                            UNION SELECT view FROM feature_views))
            LOOP
                EXECUTE 'ALTER TABLE ' || each.name || ' OWNER TO {PIPELINES}';
            END LOOP;
        END IF;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {PIPELINES};
        ALTER DEFAULT PRIVILEGES IN SCHEMA public
            GRANT USAGE, SELECT ON SEQUENCES TO {PIPELINES};
        FOR each IN
            SELECT oid::regclass AS name FROM pg_class
            WHERE relkind = 'S' AND pg_has_role(relowner, 'USAGE')
                AND relnamespace = 'public'::regnamespace
                AND relowner <> to_regrole('{PIPELINES}')
        LOOP
            EXECUTE 'GRANT USAGE, SELECT ON SEQUENCE ' || each.name || ' TO {PIPELINES}';
        END LOOP;
        FOR each IN
            SELECT oid::regclass AS name, relname = 'fti_migrations' AS is_read FROM pg_class
            WHERE relkind IN ('r', 'p', 'v') AND pg_has_role(relowner, 'USAGE')
                AND relnamespace = 'public'::regnamespace
                AND relowner <> to_regrole('{PIPELINES}')
        LOOP
            EXECUTE 'REVOKE ALL ON ' || each.name || ' FROM {PIPELINES}';
            EXECUTE 'GRANT SELECT' || CASE WHEN each.is_read THEN ''
                ELSE ', INSERT, UPDATE, DELETE' END || ' ON ' || each.name || ' TO {PIPELINES}';
        END LOOP;
    END IF;
    IF to_regrole('{API}') IS NOT NULL THEN
        FOR each IN
            SELECT to_regclass(name) AS name, rights FROM (VALUES
                ('deployments', 'SELECT'),
                ('experiment_decisions', 'SELECT'),
                ('predictions', 'SELECT, INSERT'),
                ('labels', 'SELECT, INSERT'),
                ('shipped_segments', 'SELECT, INSERT, UPDATE, DELETE')
            ) AS part (name, rights)
            JOIN pg_class ON pg_class.oid = to_regclass(name)
            WHERE pg_has_role(relowner, 'USAGE')
        LOOP
            EXECUTE 'GRANT ' || each.rights || ' ON ' || each.name || ' TO {API}';
        END LOOP;
    END IF;
END $$
"""
MISSING = (
    "SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS role (name, place) "
    "WHERE to_regrole(name) IS NULL ORDER BY place"
)


def missing_roles(connection: Any) -> list[str]:
    """Name the roles that are not there, of those that have a part in this database."""
    found = connection.execute(MISSING, ([PIPELINES, API],)).fetchall()
    return [name for (name,) in found]

"""Studies of tuning in PostgreSQL: shared by processes, continued after a crash, counted once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import StudyUnavailable

if TYPE_CHECKING:
    import optuna
    import psycopg

SCHEMA = "tuning"
WAIT_S = 0.5
BEGUN = "begun"


@dataclass(frozen=True)
class StudyStore:
    """Optuna's studies, in a schema of their own of the project's database.

    Parameters
    ----------
    url
        ``postgresql://…``
    heartbeat_s, grace_s
        How often a running trial sends a heartbeat; and after how long without one it counts as
        dead and is repeated.
    """

    url: str
    heartbeat_s: int = 5
    grace_s: int = 20

    def study(self, name: str) -> optuna.Study:
        """Open a study, new or begun.

        Raises
        ------
        StudyUnavailable
            If PostgreSQL does not answer.
        """
        import optuna
        from sqlalchemy import make_url

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        with translated(), self._locked("tables") as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            there = connection.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone()
            if there == (None,):  # a migration makes it; the role of the pipelines could not
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
            storage = optuna.storages.RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={
                    "connect_args": {"options": f"-csearch_path={SCHEMA}", "connect_timeout": 5},
                    "pool_pre_ping": True,
                },
                heartbeat_interval=self.heartbeat_s,
                grace_period=self.grace_s,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
            return optuna.create_study(
                storage=storage, study_name=name, direction="minimize", load_if_exists=True
            )

    @contextmanager
    def may_begin(self, study: optuna.Study, target: int) -> Iterator[Callable[[], None] | None]:
        """Wait until one more trial may begin; None when ``target`` trials are finished.

        The study stays locked until the trial has begun and calls the function that is yielded:
        so no two processes begin the last one.
        """
        with translated():
            while True:
                with self._locked(study.study_name) as connection:
                    _fail_never_begun(study)
                    finished, running = counts(study)
                    if finished >= target:
                        yield None
                        return
                    if finished + running < target:
                        yield lambda: _unlock(connection, study.study_name)
                        return
                time.sleep(WAIT_S)  # the last ones are running elsewhere

    @contextmanager
    def _locked(self, name: str) -> Iterator[psycopg.Connection]:
        import psycopg

        with psycopg.connect(self.url, connect_timeout=5, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (f"fti {name}",))
            yield connection


def counts(study: optuna.Study) -> tuple[int, int]:
    """How many trials are finished, cut short ones too, and how many are running.

    A trial that failed, or whose process died, is in neither: it is tried again.
    """
    import optuna

    _retry_dead(study)
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    state = optuna.trial.TrialState
    return states.count(state.COMPLETE) + states.count(state.PRUNED), states.count(state.RUNNING)


def mark_begun(study: optuna.Study, trial: optuna.Trial) -> None:
    """Note that a trial is alive, before the lock of its study is given back."""
    storage = study._storage  # noqa: SLF001  (Optuna has no public call for the heartbeat)
    number = storage.get_trial_id_from_study_id_trial_number(
        storage.get_study_id_from_name(study.study_name), trial.number
    )
    storage.record_heartbeat(number)  # type: ignore[attr-defined]
    trial.set_user_attr(BEGUN, trial.number)


@contextmanager
def translated() -> Iterator[None]:
    """Give errors of the database as one line."""
    import psycopg
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (psycopg.Error, SQLAlchemyError, StorageInternalError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise StudyUnavailable(
            f"The study in PostgreSQL cannot be reached: {reason}. Check that it runs "
            "(`make status`), then run this again: finished trials are kept."
        ) from error


def _fail_never_begun(study: optuna.Study) -> None:
    """Fail trials whose process died after it asked for them, before their first heartbeat.

    A living process holds the lock for that long, so under the lock such a trial is a dead one.
    """
    import optuna

    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        if trial.user_attrs.get(BEGUN) != trial.number:  # a repeated one has its original's
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _retry_dead(study: optuna.Study) -> None:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _unlock(connection: psycopg.Connection, name: str) -> None:
    connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", (f"fti {name}",))

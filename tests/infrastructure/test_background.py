import logging
import threading
import time

from configs.errors import FTIError
from infrastructure.background import Repeating


class Work:
    """Fails as often as told, then succeeds; says when it has been called often enough."""

    def __init__(self, failures: int, error: Exception, calls: int) -> None:
        self.failures = failures
        self.error = error
        self.calls = calls
        self.is_done = threading.Event()

    def __call__(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            self.is_done.set()
        if self.failures:
            self.failures -= 1
            raise self.error


def test_work_is_repeated_until_it_is_stopped():
    work = Work(0, FTIError(), calls=5)
    repeating = Repeating("work", work, interval_s=0.001)
    repeating.start()

    assert work.is_done.wait(5)
    repeating.stop()
    calls = work.calls
    time.sleep(0.05)
    assert work.calls == calls


def test_a_failure_is_reported_once_and_its_recovery_too(caplog):
    caplog.set_level(logging.INFO)
    work = Work(3, FTIError("the store is gone"), calls=6)
    repeating = Repeating("shipping", work, interval_s=0.001)
    repeating.start()
    assert work.is_done.wait(5)
    repeating.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "shipping: failing: the store is gone",
        "shipping: recovered",
    ]
    assert repeating.problem is None


def test_a_defect_is_reported_with_its_traceback_and_ends_nothing(caplog):
    work = Work(1, ZeroDivisionError("division by zero"), calls=3)
    repeating = Repeating("work", work, interval_s=0.001)
    repeating.start()

    assert work.is_done.wait(5)
    repeating.stop()
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_one_attempt_says_what_is_wrong():
    repeating = Repeating("work", Work(1, FTIError("a line\nand another"), calls=2), 1)

    assert (repeating.attempt(), repeating.problem) == (False, "a line and another")
    assert (repeating.attempt(), repeating.problem) == (True, None)

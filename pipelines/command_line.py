"""What the command lines share: how a step is shown, how an error is shown, how to see more."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from configs.errors import FTIError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
"""Every command takes ``debug: Debug = False``; `run` reads it."""


def new_app() -> typer.Typer:
    """Make an app whose unexpected errors keep Python's own, complete traceback."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def run(app: typer.Typer) -> None:
    """Run an app; an error that a user can mend is one line on stderr and exit code 1.

    With ``--debug`` on the command line it is raised, so that its traceback is seen.
    """
    try:
        app()
    except FTIError as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"✗ {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)


def done(step: str, seconds: float | None = None) -> None:
    """Print a finished step, with the seconds that it took where they are given."""
    took = "" if seconds is None else f" ({seconds:.1f} s)"
    typer.echo(f"{typer.style('✓', fg=typer.colors.GREEN)} {step}{took}")


def note(line: str) -> None:
    """Print a remark under a finished step."""
    typer.secho(f"  {line}", dim=True)


class Stopwatch:
    """Measures how long the steps of a pipeline take."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before

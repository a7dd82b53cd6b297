"""What the command lines share: how a step is shown, how an error is shown, how to see more."""

from __future__ import annotations

import ast
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from tqdm import tqdm
from typer.core import TyperGroup
from typer.main import get_group

from configs.errors import FTIError

SECONDS_BETWEEN_LINES = 10.0

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
"""Every command takes ``debug: Debug = False``; `run` reads it."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
"""For `configs.output.show`, of commands that answer."""


def new_app(about: str | None = None, group: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Make an app whose unexpected errors keep Python's own, complete traceback.

    With ``about``, a text for ``--help``, the app has several commands.
    """
    return typer.Typer(
        cls=group,
        help=about,
        no_args_is_help=about is not None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def lazy_app(about: str, package: str, places: Mapping[str, str]) -> typer.Typer:
    """Make an app of many commands that imports the module of the one that is asked for.

    ``--json`` may also stand before the command.

    Parameters
    ----------
    about
        A text for ``--help``.
    package
        Where the modules of the commands are. Each registers its own in ``commands``, a `Typer`.
    places
        The name of each command, as ``--help`` lists them, and its ``module:function``.
    """

    class LazyGroup(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args[:1] == ["--json"]:
                args = [*args[1:], "--json"]
            return super().parse_args(ctx, args)

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, _, rest = super().resolve_command(ctx, args)
            module = import_module(f"{package}.{places[args[0]].split(':')[0]}")
            return name, get_group(module.commands).commands[args[0]], rest

        def format_help(self, ctx: Any, formatter: Any) -> None:
            # Read from the sources: to import all modules takes longer than to show the help.
            for name, command in self.commands.items():
                command.help = _docstring(package, *places[name].split(":"))
            super().format_help(ctx, formatter)

    app = new_app(about, LazyGroup)
    for name in places:
        app.command(name)(lambda: None)
    return app


def _docstring(package: str, module: str, function: str) -> str | None:
    """The docstring of a function in a module that is not imported."""
    source = Path(import_module(package).__path__[0], f"{module}.py").read_text("utf-8")
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return next(ast.get_docstring(node) for node in functions if node.name == function)


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


class Advance(Protocol):
    """What a body calls with how much more is done, and a remark on how it goes."""

    def __call__(self, more: int, remark: str = "") -> object:
        """Show it."""


@contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Show progress while the body calls what it is given with how much more is done.

    A bar on a terminal; elsewhere a plain line every ten seconds. ``total`` is None where the end
    is not known.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=f"  {what}", unit=unit, unit_scale=True, leave=False) as bar:

            def move(more: int, remark: str = "") -> None:
                if remark:
                    bar.set_postfix_str(remark, refresh=False)
                bar.update(more)

            yield move
        return
    start = last_line = time.monotonic()
    finished = 0

    def advance(more: int, remark: str = "") -> None:
        nonlocal finished, last_line
        finished += more
        now = time.monotonic()
        if now - last_line >= SECONDS_BETWEEN_LINES:
            last_line = now
            how_far = _how_far(finished, total, unit.strip(), now - start)
            note(f"{what}: {how_far}{'; ' * bool(remark)}{remark}")

    yield advance


def _how_far(finished: int, total: int | None, unit: str, seconds: float) -> str:
    """What is done, how fast it goes, and when it will end.

    Examples
    --------
    >>> _how_far(2_000, 10_000, "rows", 10.0)
    '2,000 of 10,000 rows, 200/s, 40 s left'
    """
    of_all = "" if total is None else f" of {total:,}"
    rate = finished / seconds
    left = "" if total is None or not rate else f", {(total - finished) / rate:,.0f} s left"
    return f"{finished:,}{of_all} {unit}, {rate:,.0f}/s{left}"


class Stopwatch:
    """Measures how long the steps of a pipeline take; ``spent`` sums up those that alternate."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def spend(self, step: str) -> None:
        """Add the seconds since the last lap to those spent on a step."""
        self.spent[step] += self.lap()

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        before, self._last = self._last, time.perf_counter()
        return self._last - before

"""``python notebooks``: bring the pairs together, run them from top to bottom, keep what they show.

What is written changes only where a notebook shows something else: cells are numbered, what a cell
prints is one output, and neither times of execution nor versions of the kernel are kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat
from nbclient.exceptions import CellControlSignal, DeadKernelError

FOLDER = Path(__file__).parent
LONGEST_S = 900
"""Of one cell, on a machine that is busy with other things."""
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
PERCENT = {"extension": ".py", "format_name": "percent"}
NO_HEADER = {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}}


def main() -> int:
    """Run all pairs, or those that are named; 1 when a cell fails, whose pair stays as it was."""
    parser = argparse.ArgumentParser(prog="python notebooks", description="Run notebooks.")
    known = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
    parser.add_argument("names", nargs="*", help=f"by default all: {', '.join(known)}")
    for name in parser.parse_args().names or known:
        pair = [FOLDER / f"{name}{suffix}" for suffix in (".py", ".ipynb")]
        sources = [path for path in pair if path.exists()]
        if not sources:
            print(f"✗ There is no notebook {name!r} in {FOLDER}", file=sys.stderr)
            return 1
        begin = time.monotonic()
        try:
            notebook = executed(max(sources, key=lambda path: path.stat().st_mtime))
        except (CellControlSignal, DeadKernelError) as error:
            print(f"✗ {name}: {error}", file=sys.stderr)
            return 1
        write(notebook, *pair)
        print(f"✓ {name}: {len(notebook.cells)} cells in {time.monotonic() - begin:.0f} s")
    return 0


def executed(source: Path) -> nbformat.NotebookNode:
    """Run what a file of a pair says, in a kernel of its own."""
    cells = jupytext.read(source).cells
    for number, cell in enumerate(cells):
        cell.id, cell.metadata = f"cell-{number:02}", {}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    nbclient.NotebookClient(
        notebook,
        timeout=LONGEST_S,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": FOLDER}},
    ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def write(notebook: nbformat.NotebookNode, script: Path, kept: Path) -> None:
    """Write both files of a pair."""
    nbformat.write(notebook, kept)
    bare = nbformat.from_dict({**notebook, "metadata": NO_HEADER})
    script.write_text(jupytext.writes(bare, PERCENT))


if __name__ == "__main__":
    sys.exit(main())

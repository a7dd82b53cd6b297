"""Run every benchmark, one after the other: `python -m benchmarks [--quick]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOT_BENCHMARKS = {"__init__", "__main__", "table"}


def main() -> int:
    """Run them; 1 when any ended with an error or missed a target."""
    found = {path.stem for path in Path(__file__).parent.glob("*.py")}
    names = sorted(found - NOT_BENCHMARKS)
    if {"--help", "-h"} & set(sys.argv):
        print(__doc__, "\nOne alone: `python -m benchmarks.NAME [--quick]`.\n\n" + "\n".join(names))
        return 0
    failed = []
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"✗ Missed a target or failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

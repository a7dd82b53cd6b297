"""Make an API key: ``python -m serving new-key --role predict``."""

from __future__ import annotations

import argparse
import json

from serving.middleware.access import new_key


def print_new_key(arguments: list[str]) -> int:
    """Print a new key, once, and what to write into the settings; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m serving new-key",
        description="Make an API key. Only its hash is kept; the key is shown this once.",
    )
    parser.add_argument("--role", choices=("predict", "admin"), default="predict")
    parser.add_argument("--name", default="caller", help="whose key it is, for the log")
    options = parser.parse_args(arguments)
    key, digest = new_key()
    entry = {"name": options.name, "role": options.role, "key_sha256": digest}
    print(f"key:     {key}")
    print(f"setting: {json.dumps(entry)}")
    print("Give the key to its holder. Add the setting to deployment.api.keys, then restart:")
    print(f"FTI_DEPLOYMENT__API__KEYS='[{json.dumps(entry)}]'")
    return 0

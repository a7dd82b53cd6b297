"""Whether our programs take the words that a manifest gives them."""

from __future__ import annotations

import importlib

import typer

from configs.settings import ROOT, load_settings
from serving.__main__ import _parse


def understood(image: str, words: list[str]) -> None:
    """Fail unless the program that the image starts takes these words."""
    if image == "ml-inference":
        _parse(load_settings(), words)
        return
    module = words[1] if words[0] == "-m" else words[0].removesuffix(".py").replace("/", ".")
    if module in ("infrastructure.servers.mlflow_server", "infrastructure.servers.airflow_server"):
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert all(f'"{word}"' in source for word in words if word.startswith("--"))
        return
    package = ROOT / module.replace(".", "/")
    program = importlib.import_module(f"{module}.__main__" if package.is_dir() else module)
    rest = words[2:] if words[0] == "-m" else words[1:]
    command = typer.main.get_command(program.app)
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    command.make_context(module, rest, resilient_parsing=False)

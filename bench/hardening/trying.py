"""A process that has the whole program imported, and tries one input after the other in forks of itself."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from bench.hardening.fixtures import Fixtures
from bench.hardening.groups import inputs
from bench.hardening.inputs import Result, tried
from learning_signal.ledger.origin import STATE_VARIABLE

ROOMS = ("agents", "commands", "ledger", "marl", "tools", "viewer")
LATE = ("scipy.stats", "PIL.Image", "openai", "anthropic", "ollama")
"""What the program imports only when it is used."""


def get_ready(state: Path) -> None:
    """Import everything, so that no fork has to; sessions that are made here are noted in ``state``."""
    os.environ[STATE_VARIABLE] = str(state)
    os.environ["COLUMNS"] = "100"
    for room in ROOMS:
        package = import_module(f"learning_signal.{room}")
        for each in walk_packages(package.__path__, package.__name__ + "."):
            import_module(each.name)
    for name in LATE:
        import_module(name)


def try_one(made: Fixtures, group: str, number: int) -> Result:
    """What became of an input."""
    return tried(inputs(group, made)[number], made.state)

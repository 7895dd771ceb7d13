"""The rooms and their doors: which package may import what, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.imports import graph, modules, names_imported, parts
from tests.support.places import ROOT

ROOMS = {
    "marl": {"marl"},
    "ledger": {"ledger"},
    "tools": {"tools", "marl", "ledger"},
    "agents": {"agents", "tools", "marl", "ledger", "prompts"},
    "viewer": {"viewer", "ledger"},
    "prompts": {"prompts"},
    "commands": {"commands", "viewer", "agents", "tools", "marl", "ledger"},
}
"""Room -> the rooms it may import. ``run.py``, ``bench``, ``tests`` may import all, ``api.py`` all but ``commands``."""
OURS = {*ROOMS, "run", "api", "bench", "tests"}
ONLY_IN = {
    "torch": {"marl"},
    "pettingzoo": {"marl"},
    "gymnasium": {"marl"},
    "safetensors": {"marl"},
    "autogen_agentchat": {"agents"},
    "autogen_core": {"agents"},
    "autogen_ext": {"agents"},
    "openai": {"agents"},
    "anthropic": {"agents"},
    "ray": {"marl"},
    "sqlite_utils": {"ledger"},
    "sqlite3": {"ledger"},
    "rich": {"viewer", "run"},
    "mcp": {"viewer"},
    "pyarrow": {"viewer"},
    "datasette": {"viewer"},
    "starlette": {"viewer"},
    "uvicorn": {"viewer"},
    "tensorboard": {"viewer"},
    "typer": {"run", "viewer", "commands"},
    "commands": {"commands", "run"},
}
"""Outside package, or room of ours -> the rooms in which it is imported."""


FLOORS_OF_MARL = (
    {"canonical", "errors", "files", "hyperparameters", "paths", "processes", "randomness"},
    {"tasks"},
    {"settings", "shaping"},
    {"gate", "learners"},
    {"segments"},
    {"behaviour", "executors", "policies"},
)
"""The parts of ``marl``, lowest first: each imports from lower floors alone."""


def imported(source: str) -> set[str]:
    """The packages a source imports, anywhere in it, by name or through importlib."""
    return {_package(name) for name in names_imported(source)}


def _package(name: str) -> str:
    """The room of ours, or the outside package, that ``name`` belongs to."""
    return name.removeprefix("learning_signal.").partition(".")[0]


def violations(room: str, source: str) -> list[str]:
    """What a source of this room imports and must not."""
    found = []
    for name in sorted(imported(source)):
        if room in ROOMS and name in OURS and name not in ROOMS[room]:
            found.append(f"{room} imports {name}")
        elif name in ONLY_IN and room not in ONLY_IN[name]:
            found.append(f"{room} imports {name}")
    return found


def prints(source: str) -> bool:
    """Whether a source calls print."""
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print" for node in ast.walk(ast.parse(source))
    )


def sources() -> list[tuple[str, Path]]:
    """Every source outside tests and bench, with its room."""
    found = [(room, path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [*found, ("run", ROOT / "run.py"), ("api", ROOT / "api.py")]


def test_every_room_is_there():
    rooms = {room for room, _ in sources()}
    assert {"marl", "ledger", "tools", "agents", "viewer", "run"} <= rooms
    assert len(sources()) > 50


def test_imports_point_one_way():
    found = {str(path.relative_to(ROOT)): violations(room, path.read_text("utf-8")) for room, path in sources()}
    assert {path: each for path, each in found.items() if each} == {}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("marl", "from learning_signal.ledger.read.reader import Reader"),
        ("marl", "import learning_signal.tools.base"),
        ("ledger", "from learning_signal.marl.gate.confirmation import judge"),
        ("tools", "import learning_signal.agents.session.session"),
        ("viewer", "from learning_signal.tools.state import Head"),
        ("viewer", "import learning_signal.agents"),
        ("viewer", "from learning_signal.commands.running import supervise"),
        ("api", "from learning_signal.commands.session import session"),
        ("commands", "import torch"),
        ("commands", "from learning_signal import run"),
        ("agents", "import torch.nn as nn"),
        ("agents", "import learning_signal.run"),
        ("tools", "from learning_signal.api import train"),
        ("api", "import torch"),
        ("tools", "from pettingzoo import ParallelEnv"),
        ("tools", "def late():\n    from autogen_core import CancellationToken"),
        ("viewer", "if True:\n    import sqlite_utils"),
        ("viewer", "import sqlite3"),
        ("tools", "from rich.text import Text"),
        ("tools", "import importlib\nimportlib.import_module('torch.nn')"),
        ("agents", "from tests.support.session_helpers import run"),
    ],
)
def test_a_planted_violation_is_found(room, source):
    assert len(violations(room, source)) == 1


def upward(arrows: Mapping[str, set[str]], floors: Sequence[set[str]]) -> list[str]:
    """The imports between parts of a room that do not lead to a lower floor."""
    floor = {part: number for number, floor in enumerate(floors) for part in floor}
    return [
        f"{part} imports {other}"
        for part, others in sorted(arrows.items())
        for other in sorted(others)
        if floor[other] >= floor[part]
    ]


@pytest.fixture(scope="module")
def parts_of_marl() -> dict[str, set[str]]:
    """The parts of marl and what each imports of the others."""
    arrows = {name: others for name, others in graph(modules()).items() if name.startswith("marl.")}
    return {
        part.removeprefix("marl."): {other.removeprefix("marl.") for other in others if other != "marl"}
        for part, others in parts(arrows).items()
    }


def test_the_parts_of_marl_import_one_way(parts_of_marl):
    arrows = parts_of_marl
    assert arrows.keys() == set().union(*FLOORS_OF_MARL), "every part has its floor"
    assert upward(arrows, FLOORS_OF_MARL) == []


@pytest.mark.parametrize(("part", "other"), [("tasks", "segments"), ("gate", "learners"), ("errors", "processes")])
def test_a_planted_import_upward_is_found(parts_of_marl, part, other):
    arrows = parts_of_marl | {part: parts_of_marl[part] | {other}}
    assert upward(arrows, FLOORS_OF_MARL) == [f"{part} imports {other}"]


def test_what_is_allowed_is_not_reported():
    assert (
        violations(
            "tools",
            "from learning_signal.marl.gate.measure import words\nimport learning_signal.ledger\nfrom . import base",
        )
        == []
    )
    assert violations("marl", "import torch\nimport importlib\nimportlib.import_module(name)") == []


def test_nothing_but_the_command_line_prints():
    assert [str(path) for room, path in sources() if room != "run" and prints(path.read_text("utf-8"))] == []
    assert prints("def f():\n    print('planted')")


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "learning_signal.ledger.read.reader, learning_signal.ledger.read.verify, "
            "learning_signal.viewer.reports.log, learning_signal.viewer.reports.explain, "
            "learning_signal.viewer.live.story",
            "torch autogen_core pettingzoo",
        ),
        ("learning_signal.agents.session.session", "torch pettingzoo openai anthropic ray"),
    ],
)
def test_what_must_start_quickly_imports_nothing_heavy(modules, heavy):
    """Reading a log needs neither torch nor autogen; the process of a session leaves torch to its workers."""
    code = f"import sys, {modules}; print(*[name for name in {heavy.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")

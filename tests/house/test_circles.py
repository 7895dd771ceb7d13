"""The shape of the sources: no circle of imports, no file too long to read, no folder too full."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.imports import circles, graph, modules, parts
from tests.support.places import ROOT

MOST_LINES = 350
MOST_FILES = 14


def long_files(files: Mapping[str, Path], root: Path = ROOT) -> list[str]:
    """The files of more than ``MOST_LINES`` lines."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in files.values()
        if len(path.read_text("utf-8").splitlines()) > MOST_LINES
    )


def all_sources(root: Path = ROOT) -> dict[str, Path]:
    """Every Python file but those of the tests: the rooms', those beside them and the measurements."""
    beside = [*root.glob("*.py"), *(root / "bench").rglob("*.py")]
    return modules(root) | {path.relative_to(root).as_posix(): path for path in beside}


def full_folders(files: Mapping[str, Path], root: Path = ROOT) -> list[str]:
    """The folders that hold more than ``MOST_FILES`` Python files, not counting ``__init__.py``."""
    folders = [path.parent.relative_to(root).as_posix() for path in files.values() if path.name != "__init__.py"]
    return sorted({folder for folder in folders if folders.count(folder) > MOST_FILES})


def planted(root: Path, sources: Mapping[str, str]) -> dict[str, Path]:
    """The modules of a program made of these sources."""
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return modules(root)


def test_no_import_goes_in_circles():
    files = modules()
    assert {"marl.tasks", "marl.tasks.foreign.task", "ledger.read.reader", "run"} <= files.keys() and len(files) > 100
    arrows = graph(files)
    assert "marl.tasks.foreign.task" in arrows["marl.tasks"], "an import inside a function counts"
    assert circles(arrows) == []


@pytest.mark.parametrize(
    "back",
    [
        "from learning_signal.marl.first import thing",
        "from learning_signal.marl import first",
        "import learning_signal.marl.first",
        "def late():\n    from learning_signal.marl.first import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from learning_signal.marl.first import thing",
        "import importlib\nimportlib.import_module('learning_signal.marl.first')",
    ],
)
def test_a_planted_circle_is_found(back, tmp_path):
    sources = {
        "marl/first.py": "from learning_signal.marl.rooms import second",
        "marl/rooms/__init__.py": "",
        "marl/rooms/second.py": "from learning_signal.ledger import third",
        "ledger/third.py": back,
    }
    found = circles(graph(planted(tmp_path, sources)))
    assert found == [("ledger.third", "marl.first", "marl.rooms.second")]
    assert circles(graph(planted(tmp_path, {"ledger/third.py": "import json"}))) == []


def test_two_circles_are_two(tmp_path):
    pair = {"marl/{}.py": "from learning_signal.marl import {}"}
    names = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "a")]
    files = planted(tmp_path, {path.format(one): text.format(two) for path, text in pair.items() for one, two in names})
    assert circles(graph(files)) == [("marl.a", "marl.b"), ("marl.c", "marl.d")]


def test_no_folder_of_a_room_imports_another_in_circles():
    assert circles(parts(graph(modules()))) == []


def test_a_planted_circle_of_folders_is_found(tmp_path):
    sources = {
        "viewer/cli/options.py": "from learning_signal.viewer.reports.log import show",
        "viewer/reports/log.py": "from learning_signal.viewer import text",
        "viewer/reports/plan.py": "from learning_signal.viewer.cli import words",
        "viewer/cli/words.py": "",
        "viewer/text.py": "",
    }
    arrows = graph(planted(tmp_path, sources))
    assert (circles(arrows), circles(parts(arrows))) == ([], [("viewer.cli", "viewer.reports")])


def test_no_file_is_too_long():
    assert {"api.py", "bench/gate.py", "marl.tasks"} <= all_sources().keys()
    assert long_files(all_sources()) == []


def test_no_folder_is_too_full():
    assert full_folders(all_sources()) == []


def test_a_planted_long_file_and_a_planted_full_folder_are_found(tmp_path):
    fits = {"marl/long.py": "x = 1\n" * MOST_LINES} | {f"viewer/f{n}.py": "" for n in range(MOST_FILES)}
    files = planted(tmp_path, fits | {"viewer/__init__.py": ""})
    assert (long_files(files, tmp_path), full_folders(files, tmp_path)) == ([], [])
    files = planted(tmp_path, {"marl/long.py": "x = 1\n" * (MOST_LINES + 1), "viewer/one_more.py": ""})
    assert (long_files(files, tmp_path), full_folders(files, tmp_path)) == (["marl/long.py"], ["viewer"])

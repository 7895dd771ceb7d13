"""What a wheel holds is what the repository holds, and a helper of the tests has one name."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = ("agents", "commands", "ledger", "marl", "tools", "viewer")


def packages_below(root: Path) -> set[str]:
    """The import names of the folders with Python files in the rooms below ``root``."""
    folders = {path.parent for room in ROOMS for path in (root / room).rglob("*.py")}
    return {"learning_signal." + ".".join(folder.relative_to(root).parts) for folder in folders}


def test_every_folder_of_the_rooms_is_in_the_wheel() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert len(set(listed)) == len(listed)
    assert set(listed) - {"learning_signal", "learning_signal.prompts"} == packages_below(ROOT)


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_a_planted_folder_is_found(tmp_path: Path) -> None:
    """Negative control."""
    (tmp_path / "marl" / "planted").mkdir(parents=True)
    (tmp_path / "marl" / "planted" / "new.py").touch()
    assert packages_below(tmp_path) == {"learning_signal.marl.planted"}


# --- helpers of the tests ---

HELPERS = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")}


def second_names(source: str) -> list[str]:
    """Imports of a helper by another name than ``tests.support.NAME``, which would make a second module of its file."""
    found: list[str] = []
    if not any(name in source for name in (*HELPERS, "from .")):
        return found
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in {*HELPERS, "support"}]
        elif isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level or name.partition(".")[0] in {*HELPERS, "support"}:
                found.append("." * node.level + name)
    return found


def test_helpers_are_imported_under_one_name() -> None:
    found = {str(path.relative_to(ROOT)): second_names(path.read_text("utf-8")) for path in ROOT.glob("tests/**/*.py")}
    assert len(found) > 50 and {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source", ["import trainer_double", "from support.places import ROOT", "def f():\n    from .places import ROOT"]
)
def test_a_second_name_is_noticed(source: str) -> None:
    assert len(second_names(source)) == 1
    assert second_names("from tests.support.places import ROOT\nimport tests.support.places") == []

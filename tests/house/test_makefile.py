"""What make would do, without doing it: a broken environment is made again, a room narrows the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT


def would_do(folder: Path, *arguments: str) -> str:
    """What a make of its own prints: one that was started by `make test` would add the folders it enters."""
    of_outer = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "ROOM", "PYTEST_ARGS")
    alone = {name: value for name, value in os.environ.items() if name not in of_outer}
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, env=alone, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as far as make looks at it."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def built(checkout: Path, *names: str) -> Path:
    for name in names:
        (checkout / ".venv" / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / ".venv" / name).touch()
    return checkout


def test_an_environment_that_broke_off_before_pip_is_made_again(checkout: Path) -> None:
    assert "-m venv --clear .venv" in would_do(checkout, "test")
    assert "-m venv --clear .venv" in would_do(built(checkout, "bin/python"), "test")


def test_what_is_built_is_kept(checkout: Path) -> None:
    done = would_do(built(checkout, "bin/python", "bin/pip", "installed", "installed-dev"), "test")
    assert "venv --clear" not in done and "pip install" not in done and "-m pytest" in done


def test_a_room_narrows_the_tests(checkout: Path) -> None:
    built(checkout, "bin/python", "bin/pip", "installed", "installed-dev")
    assert would_do(checkout, "test", "ROOM=ledger").rstrip().endswith("tests/ledger")
    assert "tests/" not in would_do(checkout, "test")


def test_lint_is_types_style_and_format(checkout: Path) -> None:
    done = would_do(built(checkout, "bin/python", "bin/pip", "installed", "installed-dev"), "lint")
    for part in ("-m mypy", "ruff check", "ruff format --check"):
        assert part in done
    assert "make lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

"""What the version of the training code covers: a change of it gives every segment another id, others do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from learning_signal.marl.segments.version import (
    ROOT,
    TRAINING,
    all_sources,
    code_version,
    hash_of_sources,
    training_sources,
    training_version,
)
from tests.support.imports import graph, modules, reachable

OUTSIDE = {
    "__init__.py",
    "behaviour",
    "canonical.py",
    "errors.py",
    "executors",
    "gate",
    "files.py",
    "paths.py",
    "policies",
    "processes.py",
}
"""What no segment's result depends on."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources of ``marl`` that may be changed."""
    return shutil.copytree(ROOT, tmp_path / "marl", ignore=shutil.ignore_patterns("__pycache__"))


def versions(root: Path) -> tuple[str, str]:
    """Of the training code, and of all code."""
    return hash_of_sources(root, training_sources(root)), hash_of_sources(root, all_sources(root))


def test_versions_are_those_of_the_files(copy):
    assert ROOT.name == "marl" and (ROOT / "segments" / "version.py").is_file()
    assert versions(copy) == versions(ROOT) and versions(ROOT)[1] == code_version()
    assert len(training_version()) == 16 and training_version() not in versions(ROOT)


def test_every_file_of_marl_is_decided():
    """A new folder or file is either on the list of what counts or on the one above."""
    present = {path.relative_to(ROOT).parts[0] for path in all_sources(ROOT)}
    assert present == {*TRAINING, *OUTSIDE} and not OUTSIDE & set(TRAINING)


def test_a_change_of_the_training_code_changes_its_version(copy):
    unchanged = versions(copy)
    for path in training_sources(copy):
        source = path.read_bytes()
        path.write_bytes(source + b"#")
        training, code = versions(copy)
        assert training != unchanged[0] and code != unchanged[1], path
        path.write_bytes(source)
    assert versions(copy) == unchanged
    assert {path.relative_to(copy).parts[0] for path in training_sources(copy)} == set(TRAINING)


def test_a_change_elsewhere_does_not(copy):
    unchanged = versions(copy)
    others = [path for path in all_sources(copy) if path not in training_sources(copy)]
    assert {path.relative_to(copy).parts[0] for path in others} == OUTSIDE
    for path in others:
        source = path.read_bytes()
        path.write_bytes(source + b"#")
        training, code = versions(copy)
        assert training == unchanged[0] and code != unchanged[1], path
        path.write_bytes(source)


def test_a_file_that_comes_goes_or_is_renamed_changes_it(copy):
    unchanged = versions(copy)[0]
    added = copy / "tasks" / "another.py"
    added.touch()
    assert versions(copy)[0] != unchanged
    added.unlink()
    assert versions(copy)[0] == unchanged
    (copy / "tasks" / "clock.py").rename(added)
    assert versions(copy)[0] != unchanged


def test_what_training_imports_is_training_code():
    """All that a segment's computation imports counts, but for what names, reads and starts it or words its failure."""
    arrows = graph(modules())
    needed = {name.split(".")[1] for name in reachable("marl.segments.training", arrows) if name != "marl"}
    counted = {name.removesuffix(".py") for name in TRAINING}
    assert needed == counted | {"canonical", "errors", "files", "paths", "processes"}

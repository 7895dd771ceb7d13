"""What is mutated: a recorded session, two short ones, a training run with its policy, and a study, all made here."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from learning_signal.ledger.origin import STATE_VARIABLE
from learning_signal.tools.training.policies import export_policy
from tests.support import kinds_of_sessions
from tests.support.recorded_ledger import recorded_ledger

CONFIG = """\
[run.learner]
hidden = [8]
environments = 4
minibatches = 1
[run.evaluation]
episodes = 4
points = 2
[deliberation]
candidates = 2
refinements = 0
"""
"""The smallest run."""
SHAPING = """\
beta = 1.0
[[terms]]
potential = "coverage_distance * 0.5 + speed"
weight = -1.0
scope = "team"
[anneal]
start = 1000
end = 200000
"""


@dataclass(frozen=True)
class Fixtures:
    """The folders of what is mutated. Stores are named relative to them, so a copy works like its original."""

    root: Path

    @property
    def state(self) -> Path:
        """Which of the sessions are this user's."""
        return self.root / "state"

    @property
    def recorded(self) -> Path:
        """A folder with ``ledger.db`` alone: five rounds, a person, a kill."""
        return self.root / "recorded"

    @property
    def two(self) -> Path:
        """Two sessions in one ledger, one of them paused, with their store."""
        return self.root / "two"

    @property
    def trained(self) -> Path:
        """A training run, its store, and ``policy``, its exported policy."""
        return self.root / "trained"

    @property
    def study(self) -> Path:
        """The folder of a study, ``study``, and its store."""
        return self.root / "studied"


def make(root: Path) -> Fixtures:
    """All of them, in a new folder."""
    made = Fixtures(root)
    with _in(made.recorded, made.state):
        recorded_ledger(Path("ledger.db"))
    with _in(made.two, made.state):
        kinds_of_sessions.resumed_beside_another(Path())
    with _in(made.study, made.state):
        kinds_of_sessions.study(Path())
    with _in(made.trained, made.state):
        kinds_of_sessions.training(Path())
        export_policy(Path("ledger.db"), "latest", Path("policy"))
    return made


def make_apart(root: Path) -> Fixtures:
    """``make`` in a process of its own, so that this one trains nothing: what trained has threads, and cannot fork."""
    process = get_context("fork").Process(target=make, args=(root,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"What is to be mutated could not be made (exit code {process.exitcode}).")
    return Fixtures(root)


@contextmanager
def _in(folder: Path, state: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    state.mkdir(exist_ok=True)
    before, known = Path.cwd(), os.environ.get(STATE_VARIABLE)
    os.chdir(folder)
    os.environ[STATE_VARIABLE] = str(state.resolve())
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop(STATE_VARIABLE)
        if known is not None:
            os.environ[STATE_VARIABLE] = known


@cache
def session_ids(folder: Path) -> tuple[str, ...]:
    """The ids of the sessions in ``ledger.db`` of a folder, the oldest first."""
    with closing(sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)) as database:
        return tuple(row[0] for row in database.execute("SELECT id FROM sessions ORDER BY id"))


def copied(source: Path, to: Path) -> None:
    """Copy a folder, links as links, into one that may exist."""
    shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)

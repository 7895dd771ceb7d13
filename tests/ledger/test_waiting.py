"""A ledger that another process locks, such as a backup: it is waited for, and said once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loguru import logger

from learning_signal.ledger import connection
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file import waiting
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin

HELD = 0.8


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is logged; a wait of minutes takes a second here."""
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.2)
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


@contextmanager
def locked(path: Path, how: str) -> Iterator[None]:
    """Another connection has the ledger; it lets go after a while."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    if how == "exclusive":  # as a database browser may; readers wait, too
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN IMMEDIATE" if how == "writer" else "BEGIN EXCLUSIVE")
    timer = threading.Timer(HELD, other.close)
    timer.start()
    yield
    timer.join()


def _write(path: Path) -> None:
    with Ledger.open(path) as ledger:
        begin(ledger)


def _read(path: Path) -> None:
    with Reader.open(path) as reader:
        reader.sessions()


@pytest.mark.parametrize(
    ("how", "work"),
    [("writer", _write), ("exclusive", _write), ("exclusive", _read)],
    ids=["a writer", "a ledger that is opened", "a reader"],
)
def test_a_lock_is_waited_for_and_said_once(
    tmp_path: Path, said: list[str], how: str, work: Callable[[Path], None]
) -> None:
    _write(tmp_path / "ledger.db")
    with locked(tmp_path / "ledger.db", how):
        work(tmp_path / "ledger.db")
    assert len(said) == 1 and "is locked by another process, such as a backup" in said[0]
    assert "waiting for up to 10 minutes" in said[0]


def test_a_session_that_writes_goes_on_after_a_lock(ledger: Ledger, session: str, said: list[str]) -> None:
    ledger._db.conn.execute("PRAGMA busy_timeout = 50").fetchone()
    with locked(ledger.path, "writer"):
        ledger.event(session, "message", "written in the end")
    assert [row["title"] for row in ledger.rows("SELECT title FROM events")] == ["written in the end"]
    assert len(said) == 1


def test_a_short_lock_is_not_said_and_a_lasting_one_is_an_error(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    _write(path)
    monkeypatch.setattr(waiting, "SAY_SECONDS", 60.0)
    with locked(path, "writer"):
        _write(path)
    assert said == []
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0.3)
    with locked(path, "writer"), pytest.raises(LedgerError, match="locked by another process; wait until"):
        _write(path)

"""Ledgers where nothing can be written, and on file systems that refuse SQLite's write-ahead log."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from learning_signal.ledger import connection
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin
from tests.support.no_access import only_to_read
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return recorded_ledger(tmp_path / "ledger.db")


@pytest.fixture
def no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is opened as on a file system without shared memory: SQLite's own way to lock with a file beside it,
    under which it answers "delete" to a request for a write-ahead log.
    """
    connect = sqlite3.connect

    def without(location: Any, **options: Any) -> sqlite3.Connection:
        place = location if str(location).startswith("file:") else f"file:{location}?"
        return connect(f"{place}&vfs=unix-dotfile", **options | {"uri": True})

    monkeypatch.setattr(connection.sqlite3, "connect", without)


@pytest.fixture
def said() -> Any:
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("beside", [(), ("ledger.db-wal",), ("ledger.db-wal", "ledger.db-shm")])
def test_a_folder_without_write_access(stored: Path, beside: tuple[str, ...]) -> None:
    """Also with the empty log that a reader leaves behind."""
    for name in beside:
        stored.with_name(name).touch()
    with only_to_read(*stored.parent.iterdir()) as folder, Reader.open(folder / "ledger.db") as reader:
        assert reader.session().id == RECORDED_ID and len(reader.events()) > 100
        assert {each.name for each in folder.iterdir()} == {"ledger.db", *beside}, "nothing was written"


def written_and_cut_off(folder: Path) -> Path:
    """A ledger whose last writes lie in the log beside it alone, as after a kill."""
    (folder / "live").mkdir()
    path = folder / "cut off.db"
    with Ledger.open(folder / "live" / path.name) as ledger:
        begin(ledger)
        for each in (folder / "live").iterdir():
            shutil.copy(each, folder / each.name)
    shutil.rmtree(folder / "live")
    return path


def test_the_log_of_a_writer_is_read_where_it_can_be_and_never_left_out(tmp_path: Path) -> None:
    path = written_and_cut_off(tmp_path)
    with only_to_read(*tmp_path.iterdir()) as folder, Reader.open(folder / path.name) as reader:
        assert len(reader.sessions()) == 1
    path.with_name(f"{path.name}-shm").unlink()
    with only_to_read(*tmp_path.iterdir()) as folder, pytest.raises(LedgerError) as error:
        Reader.open(folder / path.name)
    assert "a log of its last writes beside it (cut off.db-wal)" in str(error.value)
    assert "copy all its files to a folder of yours" in str(error.value)
    with Reader.open(path) as reader:
        assert len(reader.sessions()) == 1, "where it can be written, it can be read"


def test_a_step_that_a_crash_left_half_done_is_not_taken_for_the_ledger(stored: Path) -> None:
    """Without a write-ahead log what was there before lies beside it, and only a writer may put it back."""
    raw = sqlite3.connect(stored)
    raw.execute("PRAGMA journal_mode = DELETE")
    raw.execute("PRAGMA cache_size = 1")
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("CREATE TABLE half (done)")
    raw.executemany("INSERT INTO half VALUES (?)", [("x" * 4000,) for _ in range(50)])
    assert stored.with_name("ledger.db-journal").stat().st_size > 0
    with only_to_read(*stored.parent.iterdir()) as folder, pytest.raises(LedgerError, match=r"ledger.db-journal"):
        Reader.open(folder / "ledger.db")
    raw.rollback()


def test_what_may_not_be_read_is_one_sentence(stored: Path) -> None:
    with only_to_read(stored) as folder:
        (folder / "ledger.db").chmod(0)
        with pytest.raises(LedgerError, match="cannot be opened; expected a file that you may read"):
            Reader.open(folder / "ledger.db")


def test_without_shared_memory_a_new_ledger_works_and_says_so(
    tmp_path: Path, no_shared_memory: None, said: list[str]
) -> None:
    with Ledger.open(tmp_path / "l.db") as ledger, Reader.open(ledger.path) as reader:
        session = begin(ledger)
        assert ledger.rows("PRAGMA journal_mode")[0]["journal_mode"] == "delete"
        assert ledger.rows("PRAGMA synchronous")[0]["synchronous"] == 2
        assert reader.session().id == session
        ledger.event(session, "message", "after a reader has come")
    assert len(said) == 1 and "refuses SQLite's write-ahead log" in said[0]


def test_a_ledger_with_a_write_ahead_log_is_read_and_continued_without_shared_memory(
    tmp_path: Path, said: list[str], request: pytest.FixtureRequest
) -> None:
    path = written_and_cut_off(tmp_path)
    copy = recorded_ledger(tmp_path / "complete.db")
    request.getfixturevalue("no_shared_memory")
    with Reader.open(copy) as reader:
        assert reader.session().id == RECORDED_ID
    with pytest.raises(LedgerError, match="a log of its last writes beside it"):
        Reader.open(path)
    with Ledger.open(path) as ledger, Reader.open(path) as reader:
        (session,) = reader.sessions()
        ledger.event(session.id, "message", "and on")
        assert [each.title for each in reader.events(session.id)][-1] == "and on"
    assert "refuses SQLite's write-ahead log" in said[0]


def test_a_strangers_database_is_left_as_it_is_without_shared_memory(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE recipes (name)")
    other.close()
    before = path.read_bytes()
    request.getfixturevalue("no_shared_memory")
    with pytest.raises(LedgerError, match="is an SQLite database but not a ledger"):
        Ledger.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["SQLITE_PROTOCOL", "SQLITE_IOERR_SHMMAP"])
def test_a_file_system_that_fails_in_place_of_refusing(tmp_path: Path, said: list[str], name: str) -> None:
    class _FailsAtWal(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql == "PRAGMA journal_mode = WAL":
                error = sqlite3.OperationalError("locking protocol")
                error.sqlite_errorname = name
                raise error
            return super().execute(sql, *parameters)

    raw = sqlite3.connect(tmp_path / "l.db", factory=_FailsAtWal)
    connection.use_wal(raw, tmp_path / "l.db")
    assert "refuses SQLite's write-ahead log" in said[0]
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)

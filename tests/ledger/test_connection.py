"""Opening a ledger: migrations, files that are none, places that cannot hold one, a full disk, a lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from loguru import logger

from learning_signal.ledger import connection, migrations
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file import waiting
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.schema import VERSION
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin


@pytest.fixture(autouse=True)
def new_ledgers() -> None:
    """Here the migrations themselves make them."""


def test_migrating_twice_changes_nothing_and_a_fresh_ledger_is_up_to_date(tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple]:
        return sqlite3.connect(path).execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()

    path = tmp_path / "l.db"
    Ledger.open(path).close()
    first = schema(path)
    with Ledger.open(path) as ledger:
        migrations.apply(ledger._db)
        assert ledger.rows("PRAGMA user_version")[0]["user_version"] == VERSION
        assert ledger.rows("PRAGMA foreign_keys")[0]["foreign_keys"] == 1
        assert ledger.rows("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
    assert schema(path) == first
    assert count_applied(path) == VERSION


def count_applied(path: Path) -> int:
    return sqlite3.connect(path).execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0]


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l.db"
    monkeypatch.setattr(migrations, "INDEXES", (*migrations.INDEXES, "CREATE INDEX broken ON nowhere (x)"))
    with pytest.raises(LedgerError):
        Ledger.open(path)
    monkeypatch.undo()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    with Ledger.open(path) as ledger:
        begin(ledger)


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(ledger: Ledger, session: str) -> None:
    path, newer = ledger.path, VERSION + 1
    ledger.close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {newer}")
    raw.commit()
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match=f"has version {newer}, this program knows versions up to {newer - 1}"):
            open_(path)
    raw.execute(f"PRAGMA user_version = {newer - 1}")
    raw.commit()
    assert Reader.open(path).session().id == session


def test_an_older_ledger_is_not_read_before_it_is_migrated(ledger: Ledger, session: str) -> None:
    sqlite3.connect(ledger.path).execute("PRAGMA user_version = 0")
    with pytest.raises(LedgerError, match="has version 0, this program reads version"):
        Reader.open(ledger.path)


def _text_file(path: Path) -> None:
    path.write_text("a diary, not a database\n" * 100)


def _other_database(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name)")
    other.commit()


@pytest.mark.parametrize(
    ("make", "message"), [(_text_file, "not a readable SQLite"), (_other_database, "but not a ledger")]
)
def test_files_that_are_no_ledger_are_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes()
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match=message) as error:
            open_(path)
        assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert path.read_bytes() == before


def test_places_that_cannot_hold_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="cannot be created"):
        Ledger.open(tmp_path / "file" / "ledger.db")
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match="is a directory, expected a file"):
            open_(tmp_path)
    with pytest.raises(LedgerError, match="There is no ledger at"):
        Reader.open(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "l.db").touch()
    with Ledger.open(tmp_path / "l.db") as ledger:
        begin(ledger)


def test_a_full_disk_is_one_sentence_and_loses_nothing(ledger: Ledger, session: str) -> None:
    ledger.event(session, "message", "kept")
    (pages,) = ledger.rows("PRAGMA page_count")[0].values()
    ledger._db.conn.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
    with pytest.raises(LedgerError, match="The disk is full.*free some space"), ledger.transaction("step"):
        ledger.event(session, "message", "lost")
        ledger.body("x" * 1_000_000)
    ledger._db.conn.execute("PRAGMA max_page_count = 1000000").fetchone()
    ledger.event(session, "message", "after")
    assert [row["title"] for row in ledger.rows("SELECT title FROM events")] == ["kept", "after"]


def test_a_locked_ledger_is_one_sentence(ledger: Ledger, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0.0)
    ledger._db.conn.execute("PRAGMA busy_timeout = 10").fetchone()
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked by another process"):
        ledger.event(session, "message", "x")
    other.execute("ROLLBACK")
    ledger.event(session, "message", "x")


def test_without_a_write_ahead_log_it_works_and_says_so(tmp_path: Path) -> None:
    class _RefusesWal(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            return super().execute("SELECT 'delete'" if sql == "PRAGMA journal_mode = WAL" else sql, *parameters)

    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    raw = sqlite3.connect(tmp_path / "l.db", factory=_RefusesWal)
    connection.use_wal(raw, tmp_path / "l.db")
    logger.remove(sink)
    assert "refuses SQLite's write-ahead log" in said[0]
    assert raw.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_reader_cannot_write(recorded: Reader) -> None:
    with pytest.raises(LedgerError, match="cannot be written"):
        recorded.rows("INSERT INTO bodies (hash, body) VALUES ('a', 'b')")

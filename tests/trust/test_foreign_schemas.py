"""A ledger whose tables are not this program's: one sentence says so, whatever was made of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from learning_signal.ledger.read import query
from learning_signal.ledger.read.checks.damage import changed_bodies, damage_behind
from learning_signal.ledger.read.reader import Reader
from learning_signal.run import run
from tests.support.recorded_ledger import recorded_ledger

COMMANDS = (
    ("log", "list"),
    ("log", "show", "latest/R1"),
    ("explain",),
    ("log", "stats"),
    ("log", "forecasts"),
    ("log", "verify"),
    ("log", "export", "--as", "data", "--to", "d.json"),
)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The recorded ledger with another schema."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEARNING_SIGNAL_LEDGER", "ledger.db")

    def change(*statements: str) -> None:
        with closing(sqlite3.connect(recorded_ledger(tmp_path / "ledger.db"), isolation_level=None)) as database:
            for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {trigger}")
            database.execute("PRAGMA foreign_keys = OFF")
            for statement in statements:
                database.execute(statement)

    return change


def ends(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> str:
    """What a command says; it ends by itself, in success, with findings or with one sentence."""
    capsys.readouterr()
    assert run(list(command)) in (0, 1, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "fault of the program" not in said.err
    return " ".join((said.out + said.err).split())


@pytest.mark.parametrize("table", ["bodies", "decisions", "events", "sessions"])
@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE {0} ADD COLUMN {0}_more TEXT",),
        ("ALTER TABLE {0} RENAME TO was_{0}", "CREATE VIEW {0} AS SELECT * FROM was_{0}"),
        ("DROP TABLE {0}",),
    ],
    ids=["another column", "a view", "gone"],
)
def test_tables_of_somebody_elses_making_end_in_a_sentence(changed, capsys, table: str, statements) -> None:
    changed(*(statement.format(table) for statement in statements))
    for command in COMMANDS:
        ends(capsys, command)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE decisions ADD COLUMN more TEXT", "the table decisions has the unknown column more"),
        ("ALTER TABLE decisions RENAME COLUMN reason TO was", "lacks reason"),
    ],
)
def test_the_sentence_names_the_table_and_the_column(changed, capsys, statement: str, words: str) -> None:
    changed(statement)
    said = ends(capsys, ("explain",))
    assert words in said and "log recover" in said


def test_bodies_that_are_gone_from_their_rows_are_found(changed) -> None:
    """As a page of zeros leaves them."""
    changed(
        "ALTER TABLE bodies RENAME TO was_bodies",
        "CREATE TABLE bodies (id INTEGER PRIMARY KEY, hash TEXT, body TEXT)",
        "INSERT INTO bodies SELECT id, hash, CASE WHEN id > 3 THEN body END FROM was_bodies",
    )
    with Reader.open("ledger.db") as reader:
        assert len(changed_bodies(reader)) == 3
        said = str(damage_behind(AttributeError("encode"), reader))
    assert "was changed" in said and "log recover" in said


def test_a_table_of_ones_own_beside_them_is_no_damage(changed, capsys) -> None:
    """Negative control."""
    changed("CREATE TABLE mine (session_id TEXT, note TEXT)")
    assert "damaged" not in ends(capsys, ("explain",))


def test_a_view_that_never_ends_is_ended(changed, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "MOST_STEPS", 5_000_000)
    changed()
    assert "does not end" not in ends(capsys, ("log", "export", "--as", "data", "--to", "d.json")), "negative control"
    changed(
        "ALTER TABLE agents RENAME TO was_agents",
        "CREATE VIEW agents AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT was_agents.* FROM was_agents, n",
    )
    assert "a query of it does not end" in ends(capsys, ("log", "export", "--as", "data", "--to", "d.json"))

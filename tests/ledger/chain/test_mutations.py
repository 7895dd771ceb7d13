"""Whatever is changed in a ledger is found: every column of every table, and rows deleted anywhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.chain.places import REWRITTEN
from learning_signal.ledger.packing import add_functions
from learning_signal.ledger.read.checks.chains import check_chains
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from tests.support.kinds_of_sessions import KINDS, killed_with_human, study

UNNOTICED = {
    *(("cursors", column) for column in REWRITTEN["cursors"]),
    ("_sqlite_migrations", "id"),
    ("_sqlite_migrations", "applied_at"),
}
"""What may be changed: the cursor, and when the ledger was brought up to date. Of a running session also
``REWRITTEN["sessions"]``. The search index is made from bodies and not checked row by row."""
SLOW = (killed_with_human, study)
"""The largest ledgers."""
DELETIONS = {
    "in the middle": "WHERE {key} = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {half})",
    "at the end": "WHERE {key} = (SELECT max({key}) FROM {table})",
    "of everything": "",
}


def tables(connection: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    """Name and type of the columns of every table, the parts of the search index left out."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})")]
        for name in names
        if not name.startswith("bodies_text")
    }


def key_of(table: str) -> str:
    return "number" if table == "links" else "rowid"


def changed(value: Any, kind: str) -> Any:
    """Another value of the same type."""
    if value is None:
        return 1 if kind in ("INTEGER", "REAL") else "x"
    if kind == "BLOB":
        return value[:-1] + bytes([value[-1] ^ 1])
    return value + 1_000_000 if kind == "INTEGER" else value + 0.5 if kind == "REAL" else value + "x"


def mutations(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str, tuple[Any, ...]]]:
    """Table, what is done to it, and how: statement and values."""
    for table, columns in tables(connection).items():
        key = key_of(table)
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if not count:
            continue
        for how, where in DELETIONS.items():
            yield table, how, f"DELETE FROM {table} " + where.format(table=table, key=key, half=count // 2), ()
        for column, kind in columns:
            # A row in the middle of those that have a value, if there are any.
            rows = connection.execute(
                f"SELECT {key}, {column} FROM {table} ORDER BY {column} IS NULL, {key}"
            ).fetchall()
            given = [row for row in rows if row[1] is not None] or rows
            number, value = given[len(given) // 2]
            yield table, column, f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (changed(value, kind), number)


@contextmanager
def mutated(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> Iterator[None]:
    connection.execute("SAVEPOINT mutation")
    assert connection.execute(statement, values).rowcount > 0
    yield
    connection.execute("ROLLBACK TO mutation")


def found(reader: Reader) -> list[Finding]:
    """What ``log verify`` finds but for the guards, which are dropped here; the quickest check first."""
    return check_chains(reader)[1] or [
        each for each in verify(reader, recompute, session_rules) if each.table != "trigger"
    ]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.__name__, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in KINDS]
)
def test_every_change_is_found(kind, tmp_path: Path) -> None:
    path = kind(tmp_path)
    with Reader.open(path) as reader:
        assert verify(reader, recompute, session_rules) == []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        add_functions(connection)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        running = connection.execute("SELECT count(*) FROM sessions WHERE status = 'running'").fetchone()[0] > 0
        named = UNNOTICED | ({("sessions", column) for column in REWRITTEN["sessions"]} if running else set())
        named |= {("cursors", how) for how in DELETIONS}
        reader, unnoticed, tried = Reader(connection, path), set(), 0
        for table, what, statement, values in list(mutations(connection)):
            with mutated(connection, statement, values):
                tried += 1
                if not found(reader):
                    unnoticed.add((table, what))
        assert tried > 100
        assert unnoticed <= named
        assert ("cursors", "state") in unnoticed or kind.__name__ in ("training", "study"), "negative control"
        assert found(reader) == []

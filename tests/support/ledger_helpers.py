"""What the tests of the ledger share: a session that begins, times that have passed, counts, and a forger."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from learning_signal.ledger.chain.links import everything, write_links
from learning_signal.ledger.chain.places import places
from learning_signal.ledger.packing import add_functions
from learning_signal.ledger.write.writer import Ledger

SESSION = "20261122-154501-k3f"
"""An id as the program makes them."""


def begin(ledger: Ledger, **more: object) -> str:
    row = {"task": "spread", "algorithm": "mappo", "seed": 0, "config": {"rounds": 2}, "code_version": "0"}
    return ledger.begin_session(**row | more)


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def count(ledger: Ledger, table: str) -> int:
    return ledger.rows(f"SELECT count(*) n FROM {table}")[0]["n"]


def tamper(path: Path, *statements: str, chained_anew: bool = True) -> None:
    """Change a ledger the way someone with SQLite at hand would: triggers dropped, then put back.

    The most careful forger also makes the chains anew, so that only the other checks are left to find it.
    """
    raw = sqlite3.connect(path)
    add_functions(raw)
    triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        raw.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        assert raw.execute(statement).rowcount != 0
    if chained_anew:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        placed = places({name: [row[1] for row in raw.execute(f"PRAGMA table_info({name})")] for name in tables})
        raw.execute("DELETE FROM links")
        write_links(raw.execute, placed, everything(raw.execute, placed))
    for _, sql in triggers:
        raw.execute(sql)
    raw.commit()
    raw.close()

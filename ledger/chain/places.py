"""The place of every table in the chains of sessions, found by introspection, and what has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.changes import NEWEST

REWRITTEN = {
    "cursors": ("session_id", "state"),
    "sessions": ("host", "pid", "run_token", "heartbeat_at", "wall_seconds"),
}
"""What is rewritten in place while a session runs. No chain covers a cursor; the columns of a session are covered once
it is not running."""

DERIVED = {
    "links": "the chains themselves",
    "_sqlite_migrations": "compared with the version of the ledger",
    "bodies_text": "the search index, which is made from bodies",
    "bodies_text_config": "of the search index",
    "bodies_text_data": "of the search index",
    "bodies_text_docsize": "of the search index",
    "bodies_text_idx": "of the search index",
}
"""Tables without a place in a chain besides cursors, and why they need none."""

SHARED = ("bodies", "searchable_bodies")
"""Tables whose rows belong to no session: the session that first used one has it in its chain."""

ADDRESSED = {"bodies": ("body",)}
"""Columns that another one of their row is the hash of."""


@dataclass(frozen=True)
class Place:
    """What of a table is in the chain of a session."""

    table: str
    session: str | None
    """The column with the session's id; None in a shared table."""
    columns: tuple[str, ...]
    """What is covered, by name."""
    open: frozenset[str]
    """What may be set later, see ``ledger.changes``."""

    def state(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """The values that may still change, as they are now; None where the row is final."""
        if not self.open:
            return None
        if row["status"] == "done" if self.table == "sessions" else row["status"] != "pending":
            return None
        moving = REWRITTEN.get(self.table, ()) if row["status"] == "running" else ()
        return {name: row[name] for name in self.columns if name in self.open and name not in moving}

    def fixed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The values that can never change."""
        return {name: row[name] for name in self.columns if name not in self.open}


def places(tables: Mapping[str, Iterable[str]]) -> dict[str, Place]:
    """The place of each table that has one.

    Args:
        tables: the columns of every table of a ledger.

    Raises:
        ValueError: a table has no place and is not among those that need none.
    """
    found = {}
    for table, names in tables.items():
        if table in DERIVED or table == "cursors":
            continue
        columns = sorted(set(names) - set(ADDRESSED.get(table, ())))
        session = "id" if table == "sessions" else "session_id"
        if table in SHARED:
            found[table] = Place(table, None, tuple(columns), frozenset())
        elif session in columns:
            found[table] = Place(table, session, tuple(columns), frozenset(NEWEST.get(table, ())))
        else:
            raise ValueError(f"The table {table} has no column session_id, so no chain covers it; give it one.")
    return found


def only_rewritten(table: str, columns: Iterable[str]) -> bool:
    """Whether a change of these columns is one of those that are made in place while a session runs."""
    return set(columns) <= set(REWRITTEN.get(table, ()))

"""Queries on a ledger that is open for reading: rows, bodies, and the session that a word means."""

from __future__ import annotations

import difflib
import json
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

from learning_signal.ledger.connection import bound, open_to_read
from learning_signal.ledger.errors import LedgerError, sentence
from learning_signal.ledger.file.damage import damaged, stored_json
from learning_signal.ledger.file.waiting import patiently
from learning_signal.ledger.ids import is_session_id, refuse_strange_id

STEPS, MOST_STEPS = 1_000_000, 200_000_000
"""Instructions of SQLite between two looks at a query, and in all; the latter take some four seconds, and a row of a
log some 20 of them."""


class Query:
    """A ledger opened read-only. It sees what was committed, also while a session is writing."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._body_columns: dict[str, tuple[str, ...]] = {}
        self._callbacks = 0
        connection.set_progress_handler(self._endless, STEPS)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the ledger at ``path`` read-only; raises ``LedgerError`` when there is none."""
        return cls(open_to_read(Path(path)), Path(path))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _endless(self) -> bool:
        """Whether the query that runs is to be ended: a view of a stranger's may never end."""
        self._callbacks += 1
        return self._callbacks > MOST_STEPS / STEPS

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[dict[str, Any]]:
        """Run a query and return its rows as dicts."""
        values = bound(sql, parameters)
        self._callbacks = 0
        try:
            cursor = patiently(self.path, lambda: self._connection.execute(sql, values))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where its own sentence is no text
            if self._callbacks > MOST_STEPS / STEPS:
                raise damaged(self.path, "a query of it does not end") from error
            raise LedgerError(sentence(error, self.path)) from error
        except OverflowError as error:
            raise LedgerError(
                "Found a number above 2^63, expected one that a log can hold: take it from there."
            ) from error

    @overload
    def body(self, address: str) -> str: ...

    @overload
    def body(self, address: None) -> None: ...

    def body(self, address: str | None) -> str | None:
        """Return the body with this hash, or None for None."""
        if address is None:
            return None
        found = self.rows("SELECT body FROM bodies WHERE hash = ?", (address,))
        if not found:
            raise damaged(self.path, f"it lacks the body {address}")
        return str(found[0]["body"])

    def json(self, address: str | None, kinds: tuple[type, ...] = ()) -> Any:
        """Return the JSON body with this hash, or None for None; ``LedgerError`` where it is none (of these kinds)."""
        text = self.body(address)
        return None if text is None else stored_json(self.path, text, f"the body {address}", kinds)

    def object(self, address: str) -> dict[str, Any]:
        """Return the JSON object that is the body with this hash; ``LedgerError`` where it is none."""
        value: dict[str, Any] = self.json(address, (dict,))
        return value

    def bodies(self, addresses: Iterable[str]) -> dict[str, str]:
        """Return the bodies with these hashes; raises ``LedgerError`` where one is missing."""
        wanted = list(dict.fromkeys(addresses))
        found = {row["hash"]: row["body"] for row in self.rows_with("bodies", "hash", wanted)}
        return {each: found[each] if each in found else self.body(each) for each in wanted}

    def rows_with(self, table: str, column: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        """The rows of a table with one of these values in a column; those with the same as they were written."""
        condition = f"{column} IN (SELECT value FROM json_each(?))"
        found = self.rows(f"SELECT * FROM {table} WHERE {condition}", (json.dumps(list(values)),))
        for row in found:
            row.pop("rowid", None)  # of the view before an old ledger's table
        return found

    def has_table(self, name: str) -> bool:
        """Whether the ledger has a table; one of an earlier version lacks some."""
        return bool(self.rows("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    def body_columns(self, table: str) -> tuple[str, ...]:
        """The columns of a table that hold the hash of a body."""
        if table not in self._body_columns:
            keys = self.rows(f"PRAGMA main.foreign_key_list({table})")  # main: an old ledger has a view before it
            self._body_columns[table] = tuple(key["from"] for key in keys if key["table"] == "bodies")
        return self._body_columns[table]

    def read(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its body columns replaced by the bodies."""
        bodies = self.body_columns(table)
        stored = {name: value for name, value in row.items() if name != "rowid"}
        return {name: self.body(value) if name in bodies else value for name, value in stored.items()}

    def _session_ids(self) -> list[str]:
        return [row["id"] for row in self.rows("SELECT id FROM sessions ORDER BY started_at DESC, id DESC")]

    def session_id(self, id_or_prefix: str = "latest") -> str:
        """The full id of the session with this id or this beginning of one, or of the latest.

        Raises:
            LedgerError: no session, or more than one, fits; the sentence names the nearest.
        """
        if is_session_id(id_or_prefix) and self.rows("SELECT 1 FROM sessions WHERE id = ?", (id_or_prefix,)):
            return id_or_prefix
        known = self._session_ids()
        if not known:
            raise LedgerError(f"The ledger {self.path} has no session yet; start one first.")
        chosen = known[0] if id_or_prefix == "latest" else self._fitting(id_or_prefix, known)
        refuse_strange_id(chosen, self.path)
        return chosen

    def _fitting(self, wanted: str, known: list[str]) -> str:
        """The one of ``known`` that is ``wanted`` or begins with it; strange ones only by their whole id."""
        if wanted in known:
            return wanted
        usable = [each for each in known if is_session_id(each)]
        fits = [each for each in usable if each.startswith(wanted)] if wanted else []
        if len(fits) == 1 or not usable:
            return (fits or known)[0]
        if fits:
            raise LedgerError(f"{wanted!r} fits {len(fits)} sessions ({', '.join(fits[:4])}); give more of the id.")
        nearest = difflib.get_close_matches(wanted, usable, n=3, cutoff=0.3) or usable[:3]
        raise LedgerError(
            f"There is no session {wanted!r}; the nearest are {', '.join(nearest)}: give one, or 'latest'."
        )


def event_filter(**columns: Any) -> tuple[str, list[Any]]:
    """A condition on the events ``e``, and its values; columns that are None are left out."""
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(f"e.{name} = ?" for name in given) or "TRUE", list(given.values())


@dataclass(frozen=True)
class Place:
    """A session, or in it one round or one event."""

    session: str
    round: int | None = None
    event: int | None = None


def find_place(reader: Query, text: str = "latest") -> Place:
    """The place written as ``SESSION``, ``SESSION/R2``, ``SESSION#286``, ``#286`` or ``286``.

    SESSION is an id, the beginning of one, or ``latest``. A number alone is an event where no session begins with it.

    Raises:
        LedgerError: there is no such place; the sentence says what is there.
    """
    if reader.rows("SELECT 1 FROM sessions WHERE id = ?", (text,)):  # also one that is no id, which is refused
        return Place(reader.session_id(text))
    given = text.strip()
    if re.fullmatch(r"#?[0-9]+", given) and not _begins_a_session(reader, given):
        return _event(reader, int(given.removeprefix("#")[:18]), None)
    session, mark, number = given.rpartition("#")
    if mark:
        if not number.isdecimal():
            raise LedgerError(f"Found {text!r}, expected the number of an event after '#', as in latest#286.")
        return _event(reader, int(number[:18]), reader.session_id(session) if session else None)
    session, slash, name = given.partition("/")
    chosen = reader.session_id(session or "latest")
    if not slash:
        return Place(chosen)
    if not re.fullmatch(r"R?[0-9]{1,6}", name):
        raise LedgerError(f"Found {text!r}, expected a round after '/', as in latest/R2.")
    round_ = int(name.removeprefix("R"))
    rounds = [
        row["round"]
        for row in reader.rows(
            "SELECT DISTINCT round FROM events WHERE session_id = ? AND round IS NOT NULL ORDER BY 1", (chosen,)
        )
    ]
    if round_ not in rounds:
        there = ", ".join(f"R{each}" for each in rounds) or "it has none yet"
        raise LedgerError(f"Session {chosen} has no round {round_}; expected one of its rounds: {there}.")
    return Place(chosen, round=round_)


def _begins_a_session(reader: Query, text: str) -> bool:
    return bool(reader.rows("SELECT 1 FROM sessions WHERE substr(id, 1, ?) = ? LIMIT 1", (len(text), text)))


def _event(reader: Query, number: int, session: str | None) -> Place:
    found = reader.rows("SELECT session_id FROM events WHERE seq = ?", (number,))
    if not found:
        (last,) = reader.rows("SELECT max(seq) last FROM events")
        raise LedgerError(f"There is no event #{number} in the ledger {reader.path}; its last is #{last['last'] or 0}.")
    owner = reader.session_id(found[0]["session_id"])
    if session is not None and owner != session:
        raise LedgerError(f"The event #{number} belongs to session {owner}, expected one of {session}.")
    return Place(owner, event=number)

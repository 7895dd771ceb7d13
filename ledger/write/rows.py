"""Write rows: in atomic transactions, bodies stored once, every text redacted first."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from learning_signal.ledger.canonical import BodyHash, canonical_json, content_hash, plain, storable
from learning_signal.ledger.chain.links import Written, write_links
from learning_signal.ledger.chain.places import only_rewritten, places
from learning_signal.ledger.changes import COMPLETED_LATER
from learning_signal.ledger.connection import bound
from learning_signal.ledger.errors import LedgerError, SessionTaken, sentence
from learning_signal.ledger.file.lost import OpenFile
from learning_signal.ledger.file.waiting import patiently
from learning_signal.ledger.packing import packed_json
from learning_signal.ledger.write.clock import SessionClock, now
from learning_signal.ledger.write.redaction import Redactor

SEARCHABLE = {("messages", "body"), ("tool_calls", "arguments"), ("tool_calls", "result"), ("llm_calls", "reply")}
"""Body columns whose text is found by ``Reader.search``."""

VERBATIM = {("sessions", "config")}
"""Body columns that are read back to act on them: never redacted, refused where they hold a key."""

STAMPED = {"started_at", "at", "since"}
"""Columns that hold the time a row was written."""

ENDED_LATER = {table for table, columns in COMPLETED_LATER.items() if "ended_at" in columns}

OnCommit = Callable[[str, list[dict[str, Any]]], None]


class RowWriter:
    """Writes rows of any table; every method raises ``LedgerError`` when SQLite fails."""

    def __init__(self, db: Database, path: Path, secrets: Iterable[str], on_commit: OnCommit | None) -> None:
        self.path = path
        self.clock = SessionClock()
        self.on_commit = on_commit
        """Called after every commit with the transaction's label and the events it wrote or changed."""
        self._db = db
        self._file = OpenFile(db.conn, path)
        self._redactor = Redactor(secrets)
        self._lock = threading.RLock()
        self._owner: object = None
        self._open = False
        self._written: list[Written] = []
        """By the transaction that is open."""
        self._columns = {table.name: [column.name for column in table.columns] for table in db.tables}
        self._places = places(self._columns)
        self._keys = {table.name: table.pks for table in db.tables}
        self._bodies = {
            table: {key.column for key in db.table(table).foreign_keys if key.other_table == "bodies"}
            for table in self._columns
        }

    def close(self) -> None:
        """Close the file. Everything committed stays; the write-ahead log, which keeps old versions, is emptied."""
        with self._lock:
            # SQLite empties it itself only where no reader has the file open. Do not wait for such a reader.
            with suppress(sqlite3.Error):
                self._db.conn.execute("PRAGMA busy_timeout = 500")
                self._db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.close()

    def add_secrets(self, values: Iterable[str]) -> None:
        """Add secrets, which are redacted from all later writes."""
        self._redactor.add(values)

    def redacted(self, value: Any) -> Any:
        """JSON-like ``value`` as its row will store it: without keys and what looks like one."""
        return self._redactor.value(plain(value))

    # transactions ---------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, label: str) -> Iterator[None]:
        """Make every write inside one commit, or none of them. Inside another transaction, join it.

        An exception leaves nothing behind. Do not ``await`` inside: another asyncio task's write is refused.

        Raises:
            SessionTaken: another process has resumed a session that this ledger was running.
            LedgerLost: the file is no longer at its place; what was written is in another, this transaction included
                where it could be committed.
            LedgerError: SQLite failed (full disk, lock), or another task tried to write in between.
        """
        with self._lock:
            if self._open:
                yield from self._join(label)
                return
            self._file.refuse_lost()
            self._open, self._owner, self._written = True, _running_task(), []
            runs = self.clock.runs()
            try:
                # not atomic(): it begins deferred, and two sessions that read first would collide
                self._execute("BEGIN IMMEDIATE")
                self._refuse_if_taken()
                yield
                write_links(self._execute, self._places, self._written)
                self._execute("COMMIT")
            except BaseException as error:
                self._db.rollback()
                self.clock.restore(runs)
                if isinstance(error, LedgerError):
                    self._file.refuse_if_lost(runs)
                raise
            finally:
                self._open, self._owner = False, None
            self._file.refuse_if_lost(self.clock.runs())
            if self.on_commit is not None:
                self.on_commit(label, self._events([row.rowid for row in self._written if row.table == "events"]))

    def _refuse_if_taken(self) -> None:
        """Raise ``SessionTaken`` when another process has resumed a session of this ledger.

        To be called inside a transaction: until its end nobody can take the session over.
        """
        for session_id, run in self.clock.runs().items():
            row = self.required_row("sessions", session_id)
            if row["run_token"] != run.token:
                raise SessionTaken(
                    f"Session {session_id} was taken over by process {row['pid']} on {row['host']}; this process stops."
                )

    def _join(self, label: str) -> Iterator[None]:
        if _running_task() is not self._owner:
            raise LedgerError(
                f"'{label}' was to be written inside another task's transaction; do not await inside one."
            )
        written, runs = len(self._written), self.clock.runs()
        try:
            with self._db.atomic():  # a savepoint: a failure the caller catches takes back only this part
                yield
        except BaseException:
            del self._written[written:]
            self.clock.restore(runs)
            raise

    @contextmanager
    def _writing(self, label: str) -> Iterator[None]:
        if self._open and _running_task() is self._owner:
            yield  # a single statement needs no savepoint
        else:
            with self.transaction(label):
                yield

    def _execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        connection, values = self._db.conn, bound(sql, parameters)
        try:
            return patiently(self.path, lambda: connection.execute(sql, values))
        except sqlite3.Error as error:
            raise LedgerError(sentence(error, self.path)) from error

    def _events(self, numbers: list[int]) -> list[dict[str, Any]]:
        marks = ", ".join("?" * len(numbers))
        return self.rows(f"SELECT * FROM events WHERE seq IN ({marks}) ORDER BY seq", numbers)

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[dict[str, Any]]:
        """Run a query and return its rows as dicts, uncommitted writes included."""
        with self._lock:
            cursor = self._execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    # rows -----------------------------------------------------------------------------------------

    def body(self, text: str, *, searchable: bool = True) -> BodyHash:
        """Store ``text`` (redacted) once and return its hash; ``searchable`` puts it into the index."""
        return self._keep(self._redactor.text(storable(text)), searchable)

    def _keep(self, text: str, searchable: bool) -> BodyHash:
        with self._writing("body"):
            address = BodyHash(content_hash(text))
            self._insert(
                "bodies", "INSERT INTO bodies (hash, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (address, text)
            )
            if searchable:
                insert = "INSERT OR IGNORE INTO searchable_bodies SELECT id FROM bodies WHERE hash = ?"
                self._insert("searchable_bodies", insert, (address,))
            return address

    def _insert(self, table: str, sql: str, values: Iterable[Any]) -> int:
        """Insert a row, unless it is there already, and note it for the chain; its number."""
        cursor = self._execute(sql, values)
        number = int(cursor.lastrowid or 0)
        if cursor.rowcount == 1:
            self._written.append(Written(table, number))
        return number

    def json_body(self, value: Any, *, searchable: bool = False) -> BodyHash:
        """Store ``value`` as canonical JSON (NaN and infinity become null) and return its hash."""
        return self.body(canonical_json(self._redactor.value(plain(value))), searchable=searchable)

    def verbatim(self, value: Any, what: str) -> str:
        """Return ``value`` as canonical JSON that is read back to act on it, and so must not be redacted.

        Raises:
            LedgerError: it holds a key; ``what`` names it at the beginning of the sentence.
        """
        text = canonical_json(value)
        if self._redactor.reveals(text):
            raise LedgerError(
                f"{what} holds an API key, and keys are never written to the ledger; give keys only in "
                "environment variables, replace the one that was shown, then start or resume the session."
            )
        return text

    def add(self, table: str, **row: Any) -> Any:
        """Insert a row and return its key (a tuple where the key has several columns).

        A row that has a time of its own (started_at, at, since) gets the present one unless it is given.
        Text is redacted; NaN and infinity become NULL. In a column that holds a body's hash, text, dicts and
        lists are stored as a body; a ``BodyHash`` is taken as it is. A ``packed`` column takes a dict of numbers.

        Raises:
            ValueError: no such table or column.
            LedgerError: the row breaks a constraint, or SQLite failed.
        """
        with self._writing(f"add {table}"):
            stored = self._storable(table, row)
            for name in STAMPED.intersection(self._columns[table]).difference(stored):
                stored[name] = now()
            if table in ENDED_LATER and stored.get("status") != "pending":
                stored.setdefault("ended_at", stored["started_at"])
            names = ", ".join(stored)
            marks = ", ".join("?" * len(stored))
            number = self._insert(table, f"INSERT INTO {table} ({names}) VALUES ({marks})", stored.values())
            keys = self._keys[table]
            if keys == ["id"] or keys == ["seq"]:
                return stored.get(keys[0], number)
            return tuple(stored[key] for key in keys) if len(keys) > 1 else stored[keys[0]]

    def complete(self, table: str, key: Any, **row: Any) -> None:
        """Set the missing columns of a pending row (and its final status), or change a session.

        Args:
            key: the primary key; a tuple where it has several columns (segments: session id, segment id).

        Raises:
            ValueError: no such table or column.
            LedgerError: there is no such row, the row is final already, or SQLite failed.
        """
        with self._writing(f"complete {table}"):
            stored = self._storable(table, row)
            if table in ENDED_LATER:
                stored.setdefault("ended_at", now())
            values = key if isinstance(key, tuple) else (key,)
            changes = ", ".join(f"{name} = ?" for name in stored)
            where = " AND ".join(f"{name} = ?" for name in self._keys[table])
            update = f"UPDATE {table} SET {changes} WHERE {where} RETURNING rowid"
            found = self._execute(update, (*stored.values(), *values)).fetchall()
            if len(found) != 1:
                raise LedgerError(
                    f"The ledger {self.path} has no row {key!r} in {table}; complete only what was added."
                )
            self._written.append(Written(table, found[0][0], only_rewritten(table, stored)))

    def row(self, table: str, key: Any) -> dict[str, Any] | None:
        """Return the row with this primary key, uncommitted writes included, or None."""
        self._refuse_unknown(table, {})
        where = " AND ".join(f"{name} = ?" for name in self._keys[table])
        rows = self.rows(f"SELECT * FROM {table} WHERE {where}", key if isinstance(key, tuple) else (key,))
        return rows[0] if rows else None

    def required_row(self, table: str, key: Any) -> dict[str, Any]:
        """The row with this primary key, uncommitted writes included; ``LedgerError`` where there is none."""
        row = self.row(table, key)
        if row is None:
            raise LedgerError(f"The ledger {self.path} has no row {key!r} in {table}, expected one: run log verify.")
        return row

    def has(self, table: str, **values: Any) -> bool:
        """Whether a row with these column values exists, uncommitted writes included."""
        where, given = self._matching(table, values)
        return bool(self.rows(f"SELECT 1 FROM {table} WHERE {where} LIMIT 1", given))

    def find(self, table: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows with these column values, uncommitted writes included, oldest first."""
        where, given = self._matching(table, values)
        return self.rows(f"SELECT * FROM {table} WHERE {where} ORDER BY rowid", given)

    def _matching(self, table: str, values: dict[str, Any]) -> tuple[str, list[Any]]:
        self._refuse_unknown(table, values)
        where = " AND ".join(f"{name} IS ?" for name in values) or "TRUE"
        return where, [self._scalar(table, name, value) for name, value in values.items()]

    def _refuse_unknown(self, table: str, row: dict[str, Any]) -> None:
        if table not in self._columns:
            raise ValueError(f"The ledger has no table {table!r}; it has {', '.join(sorted(self._columns))}.")
        unknown = [name for name in row if name not in self._columns[table]]
        if unknown:
            raise ValueError(f"{table} has no column {unknown[0]!r}; it has {', '.join(self._columns[table])}.")

    def _storable(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        self._refuse_unknown(table, row)
        bodies, stored = self._bodies[table], dict[str, Any]()
        for name, value in row.items():
            if name == "packed":
                stored |= packed_json(canonical_json(self._redactor.value(plain(value))))
            elif name in bodies:
                stored[name] = self._stored_body(table, name, value)
            else:
                stored[name] = self._scalar(table, name, value)
        return stored

    def _stored_body(self, table: str, name: str, value: Any) -> str | None:
        if value is None or isinstance(value, BodyHash):
            return value
        if (table, name) in VERBATIM:
            return self._keep(self.verbatim(value, f"The {name} of the session"), searchable=False)
        searchable = (table, name) in SEARCHABLE
        if isinstance(value, str):
            return self.body(value, searchable=searchable)
        return self.json_body(value, searchable=searchable)

    def _scalar(self, table: str, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.text(storable(value))
        if hasattr(value, "tolist"):  # a NumPy number, which sqlite3 would store as bytes
            value = value.tolist()
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise ValueError(f"{table}.{name} holds text or a number, got a {type(value).__name__}.")

    def stored(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """The whole row as it will stand in ``table``: bodies replaced by hashes, absent columns None."""
        columns = dict.fromkeys(self._columns[table]) | self._storable(table, row)
        bodies = self._bodies[table]
        return {name: BodyHash(value) if value and name in bodies else value for name, value in columns.items()}


def _running_task() -> object:
    """The asyncio task that is running, or None outside of one."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None

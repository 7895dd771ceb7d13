"""Recover a damaged ledger: copy every row that can be read to a new one, around the damage."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from learning_signal.ledger import migrations
from learning_signal.ledger.chain.links import everything, write_links
from learning_signal.ledger.chain.places import DERIVED, places
from learning_signal.ledger.chain.seal import RECOVERED
from learning_signal.ledger.connection import open_unchecked, refuse_absent, refuse_strangers
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.packing import add_functions

BEYOND = 4_096
"""How many rows are looked for behind the last that can be read, where nothing tells how many there were."""

GAPS = {"searchable_bodies"}
"""Tables whose numbers are not counted from 1 without gaps."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Kept:
    """What was kept of a table."""

    table: str
    rows: int
    lost: int
    """Rows that the chains list, or whose number is skipped, and that could not be read or are not rows any more."""


def recover(source: Path, to: Path) -> list[Kept]:
    """Copy every row of the ledger at ``source`` that can be read to a new ledger at ``to``; what is left, by table.

    The new one has the version of ``source`` and chains of its own, which say that it was recovered: no seal of before
    is one of it. It appears whole or not at all.

    Raises:
        LedgerError: something stands at ``to`` or it cannot be written; ``source`` is no ledger, or none of it can be
            read.
    """
    if to.exists() or to.is_symlink():
        raise LedgerError(f"There is something at {to} already, and nothing is overwritten: give another path.")
    refuse_absent(source)
    partial = to.with_name(f".{to.name}.partial")
    try:
        with closing(open_unchecked(source)) as damaged:
            version = refuse_strangers(damaged, source, empty_is_fine=False)
            to.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            with closing(_new(partial, version)) as new:
                kept = _copy(damaged, new)
                new.execute("COMMIT")
        os.link(partial, to)  # fails where something has come to stand there
        return kept
    except sqlite3.Error as error:
        raise LedgerError(
            f"Nothing of {source} can be read ({error}): it is no ledger, or its first page is damaged: restore a "
            "backup of it."
        ) from error
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        raise LedgerError(f"The new ledger {to} cannot be written ({reason}): give another path.") from error
    finally:
        partial.unlink(missing_ok=True)


def _new(path: Path, version: int) -> sqlite3.Connection:
    """An empty ledger of this version, in a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    add_functions(connection)
    migrations.apply_up_to(Database(connection), version)
    connection.execute("BEGIN")
    return connection


def _copy(damaged: sqlite3.Connection, new: sqlite3.Connection) -> list[Kept]:
    names = [row[0] for row in new.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")]
    columns = {name: [row[1] for row in new.execute(f"PRAGMA table_info({name})")] for name in names}
    listed = _listed(damaged) if "links" in columns else {}
    kept = []
    for table in (each for each in names if each not in DERIVED):
        there = {row[1] for row in damaged.execute(f"PRAGMA main.table_info({table})")}
        shared = [name for name in columns[table] if name in there]
        numbered = not _without_rowid(new, table)
        known = listed.get(table, set())
        rows = _rows(damaged, table, shared, max(known, default=0)) if numbered else _unnumbered(damaged, table, shared)
        found = _insert(new, table, ["rowid", *shared] if numbered else shared, rows)
        expected = known | (
            set(range(1, max(found, default=0))) if numbered and table != "searchable_bodies" else set()
        )
        kept.append(Kept(table, len(found), len(expected - found)))
    if "links" in columns:
        by_name = places(columns)
        write_links(new.execute, by_name, everything(new.execute, by_name), first=[[RECOVERED, 1]])
    return kept


def _insert(new: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> set[Any]:
    """Insert rows; the first column of those that are rows of this table."""
    found = set()
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    for row in rows:
        with suppress(sqlite3.Error):  # damaged to what the table does not take
            new.execute(insert, row)
            found.add(row[0])
    return found


def _without_rowid(connection: sqlite3.Connection, table: str) -> bool:
    try:
        connection.execute(f"SELECT rowid FROM {table} LIMIT 1")
    except sqlite3.OperationalError:
        return True
    return False


def _rows(damaged: sqlite3.Connection, table: str, columns: Sequence[str], listed: int) -> Iterator[Row]:
    """The rows that can be read, each behind its number; ``listed``: the largest number that a chain has."""
    select = (
        f"SELECT rowid, {', '.join(columns)} FROM main.{table} NOT INDEXED WHERE rowid > ? AND rowid < ? ORDER BY rowid"
    )

    def between(low: int, high: int) -> Iterator[Row]:
        """Those with numbers between these, from both ends to the damage, then in halves of what is left."""
        for order in ("", " DESC"):
            try:
                for row in damaged.execute(select + order, (low, high)):
                    low, high = (row[0], high) if order == "" else (low, row[0])
                    yield row
                return
            except sqlite3.Error:
                continue
        if high - low > 2:
            middle = (low + high) // 2
            yield from between(low, middle + 1)
            yield from between(middle, high)

    last = 0
    try:
        for row in damaged.execute(select, (last, 2**63 - 1)):
            last = row[0]
            yield row
        return
    except sqlite3.Error:
        pass
    most = max(listed, last + BEYOND)
    with suppress(sqlite3.Error):
        ((most,),) = damaged.execute(f"SELECT rowid FROM main.{table} NOT INDEXED ORDER BY rowid DESC LIMIT 1")
    yield from between(last, most + 1)


def _unnumbered(damaged: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a table without numbers, as earlier versions have one: from both ends to the damage."""
    keys = [row[1] for row in damaged.execute(f"PRAGMA main.table_info({table})") if row[5]]
    for order in ("", " DESC"):
        by = ", ".join(f"{key}{order}" for key in keys)
        with suppress(sqlite3.Error):
            yield from damaged.execute(f"SELECT {', '.join(columns)} FROM main.{table} ORDER BY {by}")
            return


def _listed(damaged: sqlite3.Connection) -> dict[str, set[int]]:
    """The numbers of the rows that the chains list, by table, as far as the links can be read."""
    listed: dict[str, set[int]] = {}
    for _, text in _rows(damaged, "links", ["entries"], 0):
        with suppress(ValueError, TypeError, IndexError, RecursionError):
            for entry in json.loads(text):
                if len(entry) > 1 and isinstance(entry[1], int) and isinstance(entry[0], str):
                    last = entry[2] if len(entry) > 2 and isinstance(entry[2], int) else entry[1]
                    if last - entry[1] < 10_000_000:
                        listed.setdefault(entry[0], set()).update(range(entry[1], last + 1))
    return listed

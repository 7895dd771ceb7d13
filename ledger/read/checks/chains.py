"""Check the chains of a ledger: every row stands in its chain, and is as it was when it was written there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from learning_signal.ledger.chain.links import digest, link_hash
from learning_signal.ledger.chain.places import Place, places
from learning_signal.ledger.chain.seal import RECOVERED
from learning_signal.ledger.file.damage import damaged
from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import Finding

Key = tuple[str, int]
"""Table and number of a row."""


class _Row(NamedTuple):
    """A row as it is now."""

    whole: str
    """Its digest."""
    fixed: str
    """The digest of what could never change; "" where it was final from the beginning."""
    state: dict[str, Any] | None
    """What may still change; None where it is final."""


@dataclass(frozen=True)
class Chain:
    """What the chain of a session covers."""

    session: str
    links: int
    rows: int
    hash: str
    """Of the last link."""
    unsealed: int | None
    """The version of the program's ledger that wrote the first link's rows, without a chain; None where none did."""


def has_chains(reader: Query) -> bool:
    """Whether the ledger has the table; one that an earlier version wrote has none."""
    return reader.has_table("links")


def chained_tables(reader: Query) -> list[str]:
    """The tables with a place in the chains; none in a ledger that an earlier version wrote."""
    return list(_places(reader)) if has_chains(reader) else []


def check_chains(reader: Query) -> tuple[list[Chain], list[Finding]]:
    """The chain of every session, and what does not agree with it. Each row is read once."""
    if not has_chains(reader):
        return [], []
    sessions = [row["id"] for row in reader.rows("SELECT id FROM sessions ORDER BY started_at, rowid")]
    links: dict[str, list[dict[str, Any]]] = {session: [] for session in sessions}
    for link in reader.rows("SELECT session_id, number, entries, hash FROM links ORDER BY session_id, number"):
        links.setdefault(link["session_id"], []).append(link | {"listed": _entries(link["entries"])})
    walk = _Walk(
        reader, {(entry[0], entry[1]) for each in links.values() for link in each for entry in _open(link["listed"])}
    )
    chains = [walk.chain(session, of_session) for session, of_session in links.items()]
    walk.compare_open_rows()
    walk.find_strangers()
    return [each for each in chains if each is not None], walk.findings


class _Walk:
    """Goes along the chains and keeps what they said of every row."""

    def __init__(self, reader: Query, opened: set[Key]) -> None:
        """``opened``: the rows that a link lists as such that may still change."""
        self._reader, self._places = reader, _places(reader)
        self._now = {
            (each.table, number): row for each in self._places.values() for number, row in _rows(reader, each, opened)
        }
        self._final: set[Key] = set()
        self._open: dict[Key, dict[str, Any]] = {}
        """What the last link said of rows that could still change."""
        self.findings: list[Finding] = []

    def chain(self, session: str, links: list[dict[str, Any]]) -> Chain | None:
        """Go along the chain of a session, from its first link on."""
        before = len(self._final) + len(self._open)
        previous, unsealed = "", None
        if not links:
            self.findings.append(Finding("sessions", session, "has no chain: its links were deleted"))
            return None
        for number, link in enumerate(links, start=1):
            place = f"{session} {link['number']}"
            if link["number"] != number:
                self.findings.append(Finding("links", place, f"is where link {number} was expected: one is missing"))
                break
            entries = link["listed"]
            try:
                if entries[0][0] == RECOVERED:
                    entries.pop(0)
                elif entries[0][0] == "version":
                    unsealed = entries.pop(0)[1]
                digests = self._digests(place, entries)
            except (ValueError, TypeError, IndexError):
                self.findings.append(Finding("links", place, "does not list rows: it was changed"))
                break
            expected = link_hash(session, number, previous, link["entries"], [each or "" for each in digests])
            if None not in digests and expected != link["hash"]:
                problem = f"its hash does not fit: it was changed, or one of its rows was ({_listed(entries)})"
                self.findings.append(Finding("links", place, problem))
            previous = link["hash"]
        return Chain(session, len(links), len(self._final) + len(self._open) - before, links[-1]["hash"], unsealed)

    def _digests(self, place: str, entries: list[list[Any]]) -> list[str | None]:
        """The digest of each row that a link lists; None for one that is not there, which is a finding."""
        digests: list[str | None] = []
        for table, first, *rest in entries:
            state = rest[0] if rest and isinstance(rest[0], dict) else None
            last = rest[0] if rest and state is None else first
            if last - first > len(self._now):
                raise ValueError("more rows than there are")
            for number in range(first, last + 1):
                key, row = (table, number), self._now.get((table, number))
                if key in self._final:
                    self.findings.append(Finding(table, str(number), f"is final, and in the chain again: link {place}"))
                if row is None:
                    self.findings.append(Finding(table, str(number), f"is missing: it is in the chain, link {place}"))
                    digests.append(None)
                elif state is None:
                    self._open.pop(key, None)
                    self._final.add(key)
                    digests.append(row.whole)
                else:
                    self._open[key] = state
                    digests.append(row.fixed)
        return digests

    def compare_open_rows(self) -> None:
        """Whether what could still change is as the last link said."""
        for (table, number), said in self._open.items():
            row = self._now.get((table, number))
            if row is None:
                continue
            if row.state is None:
                problem = "was completed, and no link of the chain says so"
                self.findings.append(Finding(table, self._name(table, number), problem))
                continue
            for name in sorted(row.state.keys() | said.keys()):
                if row.state.get(name) != said.get(name):
                    problem = f"{name} is {row.state.get(name)!r}, the chain says {said.get(name)!r}"
                    self.findings.append(Finding(table, self._name(table, number), problem))

    def find_strangers(self) -> None:
        """Rows that stand in no chain."""
        for table, number in sorted(self._now.keys() - self._final - self._open.keys()):
            problem = "stands in no chain: this program did not write it"
            self.findings.append(Finding(table, self._name(table, number), problem))

    def _name(self, table: str, number: int) -> str:
        """The row's id, where it has one."""
        if "id" not in self._places[table].columns:
            return str(number)
        return str(self._reader.rows(f"SELECT id FROM main.{table} WHERE rowid = ?", (number,))[0]["id"])


def _places(reader: Query) -> dict[str, Place]:
    try:
        return places(tables_of(reader))
    except ValueError as error:
        raise damaged(reader.path, f"its tables are not this program's ({error})") from error


def tables_of(reader: Query) -> dict[str, list[str]]:
    """Every table of a ledger with the names of its columns."""
    tables = [row["name"] for row in reader.rows("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
    return {name: [row["name"] for row in reader.rows(f'PRAGMA main.table_info("{name}")')] for name in tables}


def _entries(text: str) -> list[Any]:
    """What a link lists; nothing where that cannot be read."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return entries if isinstance(entries, list) else []


def _open(entries: list[Any]) -> Iterator[list[Any]]:
    """The entries of rows that may still change."""
    for entry in entries:
        match entry:
            case [str(), int(), dict()]:
                yield entry


def _rows(reader: Query, place: Place, opened: set[Key]) -> Iterator[tuple[int, _Row]]:
    """The rows of a table, by number."""
    columns = ", ".join(place.columns)
    for row in reader.rows(f"SELECT rowid AS row_number, {columns} FROM main.{place.table}"):
        number = row.pop("row_number")
        fixed = digest(place.fixed(row)) if (place.table, number) in opened else ""
        yield number, _Row(digest(row), fixed, place.state(row))


def _listed(entries: list[list[Any]]) -> str:
    """The rows of a link in words."""
    words = [
        f"{table} {first}" + (f" to {rest[0]}" if rest and isinstance(rest[0], int) else "")
        for table, first, *rest in entries
    ]
    return ", ".join(words[:6]) + (", ..." if len(words) > 6 else "")

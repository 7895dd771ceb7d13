"""Write the links of a chain: what one transaction wrote of a session, and a hash over it and the link before.

A link lists rows by table and number (``rowid``), in the order in which they were written:

* ``["messages", 7]`` and ``["messages", 7, 9]``: rows that are final, whose every column the hash covers;
* ``["events", 12, {"status": "pending", "title": "..."}]``: a row that may still change, with what may change in it as
  it was then; the hash covers its other columns. Of a row that changed, the last link that lists it counts;
* ``["version", 7]``, at the beginning of a first link: what it lists stood here when a ledger of an earlier version was
  brought up to date, and nothing vouches for it until then;
* ``["recovered", 1]``, there too: what it lists could be read of a damaged ledger, and nothing vouches for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from learning_signal.ledger.chain.places import Place

Execute = Callable[[str, tuple[Any, ...]], Iterable[tuple[Any, ...]]]
"""Runs a statement with its parameters and gives its rows."""


_JSON = json.JSONEncoder(separators=(",", ":"), default=bytes.hex, check_circular=False).encode


class Written(NamedTuple):
    """A row that a transaction added or changed."""

    table: str
    rowid: int
    in_place: bool = False
    """Whether only what is rewritten in place was changed."""


def digest(row: Mapping[str, Any]) -> str:
    """The hash of a row's values, in the order of their names; those without one do not count."""
    return _hash({name: value for name, value in row.items() if value is not None})


def link_hash(session: str, number: int, previous: str, rows: str, digests: Sequence[str]) -> str:
    """The hash of a link: over its place, the link before ("" for the first), what it lists, and these rows."""
    return _hash([session, number, previous, rows, *digests])


def _hash(value: Any) -> str:
    return sha256(_JSON(value).encode()).hexdigest()


def write_links(
    execute: Execute, places: Mapping[str, Place], written: Iterable[Written], first: Sequence[Any] = ()
) -> None:
    """Add a link to the chain of every session whose rows these are; each row is read back as it is stored.

    Args:
        first: entries at the beginning of each link's list.
    """
    rows: dict[tuple[str, int], bool] = {}
    for table, rowid, in_place in written:
        rows[table, rowid] = in_place and rows.get((table, rowid), True)
    shared: list[tuple[Any, str]] = []
    by_session: dict[str, list[tuple[Any, str]]] = {}
    for (table, rowid), in_place in rows.items():
        place = places[table]
        values = next(iter(execute(f"SELECT {', '.join(place.columns)} FROM {table} WHERE rowid = ?", (rowid,))))
        row = dict(zip(place.columns, values, strict=True))
        if in_place and row["status"] == "running":
            continue
        state = place.state(row)
        if state is None:
            listed = [table, rowid], digest(row)
        else:
            known = {name: value for name, value in state.items() if value is not None}
            listed = [table, rowid, known], digest(place.fixed(row))
        (shared if place.session is None else by_session.setdefault(row[place.session], [])).append(listed)
    for session, listed_rows in by_session.items():
        _write_link(execute, session, [*shared, *listed_rows], first)
        shared = []


def _write_link(execute: Execute, session: str, listed: Sequence[tuple[Any, str]], first: Sequence[Any]) -> None:
    before = list(
        execute("SELECT number, hash FROM links WHERE session_id = ? ORDER BY number DESC LIMIT 1", (session,))
    )
    number, previous = before[0] if before else (0, "")
    rows = json.dumps([*first, *_ranges(entry for entry, _ in listed)], separators=(",", ":"))
    value = link_hash(session, number + 1, previous, rows, [each for _, each in listed])
    execute(
        "INSERT INTO links (session_id, number, entries, hash) VALUES (?, ?, ?, ?)", (session, number + 1, rows, value)
    )


def _ranges(entries: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """The entries with successive final rows of one table in one."""
    last: list[Any] | None = None
    for entry in entries:
        if last is not None and len(entry) == 2 and entry[0] == last[0] and entry[1] == last[-1] + 1:
            last[2:] = [entry[1]]
            continue
        if last is not None:
            yield last
        last = entry if len(entry) == 2 else None
        if last is None:
            yield entry
    if last is not None:
        yield last


def everything(execute: Execute, places: Mapping[str, Place]) -> list[Written]:
    """Every row that has a place in a chain; sessions first."""
    tables = sorted(places, key=lambda table: (table != "sessions", table))
    return [
        Written(table, rowid)
        for table in tables
        for (rowid,) in execute(f"SELECT rowid FROM {table} ORDER BY rowid", ())
    ]

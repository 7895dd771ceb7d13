"""Server-sent events: what a log gets while a page is open, read from the file alone.

Closing the page changes nothing. A stream ends with its session; after a lost connection the browser asks again, from
the number of the last event that it got.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.events.pages import fitting
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow, SessionRow

PACE = 0.4
"""Seconds between two looks at the file."""
RESTING = 12
"""Looks at the file after which its log is read in any case: whether a process lives is in no file."""
Looked = TypeVar("Looked")


async def session_changes(
    ledger: Path, session: str, after: int, filters: Mapping[str, Any], rendered: Callable[[EventRow], str]
) -> AsyncIterator[bytes]:
    """The messages of a session's page: ``events`` (their HTML), ``changed`` (all else) and ``ended``.

    ``filters`` are as in ``ledger.read.events.pages``.
    """
    before: SessionRow | None = None

    def look(reader: Reader) -> tuple[SessionRow, list[EventRow]]:
        row = reader.session(session)  # first: what it wrote before its end is then among the events
        return row, reader.events(session, after_seq=after)

    async for row, events in _looks(ledger, look):
        if events:
            after = events[-1].seq
            shown = await run_in_threadpool(_fitting, ledger, session, filters, events)
            yield message("events", "".join(map(rendered, shown)), after)
        now = _lasting(row)
        if before is not None and now != before:
            yield message("changed", row.status)
        before = now
        if row.status == "done":
            yield message("ended", row.status)
            return


async def list_changes(ledger: Path, shown: int) -> AsyncIterator[bytes]:
    """``changed`` whenever the newest sessions are no longer as they were."""
    before: list[SessionRow] | None = None
    async for rows in _looks(ledger, lambda reader: [_lasting(each) for each in reader.sessions(limit=shown)]):
        if before is not None and rows != before:
            yield message("changed", "")
        before = rows


def message(kind: str, text: str, number: int | None = None) -> bytes:
    """One server-sent event; its text is a JSON string, so that line ends survive."""
    name = "" if number is None else f"id: {number}\n"
    return f"{name}event: {kind}\ndata: {json.dumps(text)}\n\n".encode()


async def _looks(ledger: Path, look: Callable[[Reader], Looked]) -> AsyncIterator[Looked]:
    """What ``look`` finds whenever the log may have changed; one that cannot be read now is looked at again."""

    def read() -> Looked:
        with Reader.open(ledger) as reader:
            return look(reader)

    known: Any = None
    rested = RESTING
    while True:
        now = _signature(ledger)
        if now != known or rested >= RESTING:
            try:
                found = await run_in_threadpool(read)
            except LedgerError:
                known = None
            else:
                known, rested = now, 0
                yield found
        rested += 1
        await asyncio.sleep(PACE)


def _signature(ledger: Path) -> tuple[Any, ...]:
    found: list[tuple[int, int, int] | None] = []
    for path in (ledger, Path(f"{ledger}-wal")):
        try:
            state = path.stat()
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def _lasting(row: SessionRow) -> SessionRow:
    """A session without what changes while nothing happens in it."""
    return replace(row, wall_seconds=0.0, heartbeat_at="", seal=None)


def _fitting(ledger: Path, session: str, filters: Mapping[str, Any], events: list[EventRow]) -> list[EventRow]:
    if all(each is None for each in filters.values()):
        return events
    with Reader.open(ledger) as reader:
        return fitting(reader, session, events, **filters)

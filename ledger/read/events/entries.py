"""Events with everything behind them, many read at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from learning_signal.ledger.file.damage import stored_json
from learning_signal.ledger.ids import refuse_strange_id
from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import Entry, EventRow

AT_ONCE = 400
"""Events that are read together."""
PARTS = ("messages", "llm_calls", "tool_calls")
"""The tables with the parts of an entry."""

Rows = list[dict[str, Any]]
Key = tuple[str | None, str | None, str | None]
"""Table, id and session of the row that an event is about; segments alone are told apart by their session, too."""


def entries(reader: Query, events: Iterable[EventRow]) -> Iterator[Entry]:
    """Each of these events with everything behind it.

    Raises:
        LedgerError: an event belongs to a session whose id is strange, or a body is missing.
    """
    rest = iter(events)
    while some := list(islice(rest, AT_ONCE)):
        yield from _entries(reader, some)


def _entries(reader: Query, events: Sequence[EventRow]) -> Iterator[Entry]:
    for session in {each.session_id for each in events}:
        refuse_strange_id(session, reader.path)
    numbers = [each.seq for each in events]
    parts = {table: reader.rows_with(table, "event_seq", numbers) for table in PARTS}
    about = _references(reader, events)
    tables = [*parts.items(), *((str(table), [row]) for (table, _, _), row in about.items())]
    _read_bodies(reader, tables, parts["llm_calls"])
    by_event = {table: _by_event(rows) for table, rows in parts.items()}
    for event in events:
        behind = {table: by.get(event.seq, []) for table, by in by_event.items()}
        yield Entry(event, **behind, reference=about.get(_key(event)))


def _key(event: EventRow) -> Key:
    return event.ref_table, event.ref_id, event.session_id if event.ref_table == "segments" else None


def _references(reader: Query, events: Sequence[EventRow]) -> dict[Key, dict[str, Any]]:
    """The rows that these events are about."""
    wanted: dict[tuple[str, str | None], list[str | None]] = {}
    for table, identity, session in dict.fromkeys(map(_key, events)):
        if table is not None:
            wanted.setdefault((table, session), []).append(identity)
    found: dict[Key, dict[str, Any]] = {}
    for (table, session), ids in wanted.items():
        name = "seq" if table == "events" else "id"
        for row in reader.rows_with(table, name, ids):
            if session is None or row["session_id"] == session:
                found[table, str(row[name]), session] = row
    return found


def _read_bodies(reader: Query, tables: Iterable[tuple[str, Rows]], calls: Rows) -> None:
    """Put the bodies in place of their hashes; the context of a call becomes the list of those that were sent."""
    places = [(row, name) for table, rows in tables for row in rows for name in reader.body_columns(table)]
    places = [(row, name) for row, name in places if row[name] is not None]
    bodies = reader.bodies(row[name] for row, name in places)
    for row, name in places:
        row[name] = bodies[row[name]]
    contexts = [stored_json(reader.path, call["context"], f"what call {call['id']} sent", (list,)) for call in calls]
    sent = reader.bodies(chain.from_iterable(contexts))
    for call, context in zip(calls, contexts, strict=True):
        call["context"] = [sent[address] for address in context]


def _by_event(rows: Rows) -> Mapping[int, Rows]:
    found: dict[int, Rows] = {}
    for row in rows:
        found.setdefault(row["event_seq"], []).append(row)
    return found

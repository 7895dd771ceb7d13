"""The events of a session a page at a time, however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.read.events.search import search
from learning_signal.ledger.read.query import event_filter
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow


@dataclass(frozen=True)
class EventPage:
    """Some events of a session, in order."""

    number: int
    """Of this page, from 1."""
    pages: int
    """At least 1, also where no event fits."""
    total: int
    """Events on all pages."""
    events: list[EventRow]

    @property
    def is_last(self) -> bool:
        """Whether what comes next belongs behind it."""
        return self.number == self.pages


def event_page(
    reader: Reader, session: str, number: int | None, size: int, text: str | None = None, **filters: Any
) -> EventPage:
    """A page of the events that fit ``filters`` and hold the words ``text``; the last where ``number`` is None.

    ``filters`` are columns of events, as in ``Reader.events``; a number beyond the last page means the last.
    """
    if text is not None:
        found = _holding(reader, session, text, filters)
        chosen, pages = _place(number, len(found), size)
        return EventPage(chosen, pages, len(found), found[(chosen - 1) * size : chosen * size])
    where, values = event_filter(session_id=session, **filters)
    (counted,) = reader.rows(f"SELECT count(*) AS total FROM events e WHERE {where}", values)
    chosen, pages = _place(number, counted["total"], size)
    rows = reader.rows(
        f"SELECT * FROM events e WHERE {where} ORDER BY seq LIMIT ? OFFSET ?", (*values, size, (chosen - 1) * size)
    )
    return EventPage(chosen, pages, counted["total"], [EventRow(**row) for row in rows])


def fitting(
    reader: Reader, session: str, events: Sequence[EventRow], text: str | None = None, **filters: Any
) -> list[EventRow]:
    """Those of ``events`` that ``event_page`` would show."""
    fit = [each for each in events if _fits(each, filters)]
    if text is None or not fit:
        return fit
    holding = {each.seq for each in _holding(reader, session, text, filters)}
    return [each for each in fit if each.seq in holding]


def page_with(reader: Reader, session: str, event: int, size: int) -> int:
    """The number of the page, without filters, on which an event of a session stands."""
    (row,) = reader.rows("SELECT count(*) AS before FROM events WHERE session_id = ? AND seq < ?", (session, event))
    return int(row["before"]) // size + 1


def _holding(reader: Reader, session: str, text: str, filters: Mapping[str, Any]) -> list[EventRow]:
    """The events that hold the words and fit, in order."""
    found = {hit.event.seq: hit.event for hit in search(reader, text, session=session, limit=None)}
    return [found[seq] for seq in sorted(found) if _fits(found[seq], filters)]


def _fits(event: EventRow, filters: Mapping[str, Any]) -> bool:
    return all(value is None or getattr(event, name) == value for name, value in filters.items())


def _place(number: int | None, total: int, size: int) -> tuple[int, int]:
    """The page that is shown, and how many there are."""
    pages = max(1, -(-total // size))
    return pages if number is None else min(max(number, 1), pages), pages

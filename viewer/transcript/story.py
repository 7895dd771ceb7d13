"""The story of a session, its events opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType

from learning_signal.ledger.read.records import Entry, EventRow, SessionRow
from learning_signal.viewer.transcript.lines import event_line, headline
from learning_signal.viewer.transcript.opened import indented, opened, raw, result
from learning_signal.viewer.transcript.turn import render_next_turn, render_turn


def render_events(row: SessionRow | None, entries: Sequence[Entry]) -> Group:
    """The story of a session, one line per event, and what lies behind each; ``row`` as in ``render_lines``."""
    return Group(*headline(row), *_lines([each.event for each in entries], [opened(each) for each in entries]))


def render_turns(row: SessionRow | None, entries: Sequence[Entry]) -> Group:
    """The events of a round, every model call as it was sent and answered; what two of them share is shown once."""
    return Group(*headline(row), *_lines([each.event for each in entries], list(turns(entries))))


def turns(entries: Iterable[Entry]) -> Iterator[list[RenderableType]]:
    """What lies behind each event, where the requests of an agent show only what was new in them."""
    last: dict[tuple[int | None, str | None, str | None], Sequence[str]] = {}
    begun: dict[tuple[str, ...], int] = {}
    for entry in entries:
        parts: list[RenderableType] = []
        for call in entry.llm_calls:
            speaker = (entry.event.round, entry.event.agent, entry.event.phase)
            known = _common(last.get(speaker, ()), call["context"])
            last[speaker] = call["context"]
            if known > 1:
                parts.append(render_next_turn(call, known))
            else:
                beginning = (call["tools"], *call["context"][:1])
                parts.append(render_turn(call, begun.get(beginning)))
                begun.setdefault(beginning, entry.event.seq)
        for made in entry.tool_calls:
            parts += result(made)
        if not entry.messages and not parts:
            parts = opened(entry)
        yield parts


def render_entry(entry: Entry, *, as_stored: bool = False) -> Group:
    """One event with everything behind it; a model call with all that was sent."""
    parts = raw(entry) if as_stored else opened(entry, whole=True)
    return Group(*_lines([entry.event], [parts]))


def render_raw(row: SessionRow | None, entries: Sequence[Entry]) -> Group:
    """The events of a session with their rows as they are stored."""
    return Group(*headline(row), *_lines([each.event for each in entries], [raw(each) for each in entries]))


def _common(before: Sequence[str], now: Sequence[str]) -> int:
    """How many messages ``now`` begins with as ``before`` does."""
    for index, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return index
    return min(len(before), len(now))


def _lines(events: Sequence[EventRow], details: Sequence[list[RenderableType]]) -> list[RenderableType]:
    """The line of each event, and below it what lies behind it."""
    parts: list[RenderableType] = []
    for event, behind in zip(events, details, strict=True):
        parts += [event_line(event, whole=True), *indented(behind)]
    return parts

"""The story of a session: one line per event, each opened on request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.records import Entry, EventRow, SessionRow
from learning_signal.viewer.events import tone
from learning_signal.viewer.reports.log import session_line
from learning_signal.viewer.text import agent_text, clean, outcome_text, styled
from learning_signal.viewer.transcript.opened import indented, opened, raw, result
from learning_signal.viewer.transcript.turn import render_next_turn, render_turn

WIDTHS = (5, 8, 3, 11, 11)
"""Of number, time, round, agent and kind."""
WHOLE = ("error", "refused", "interrupted")
"""Events with this status have their whole sentence, on as many lines as it takes."""


def render_events(row: SessionRow | None, events: Sequence[EventRow], entries: Sequence[Entry] | None = None) -> Group:
    """The story of a session, one line per event; with ``entries`` (one per event) also what lies behind each.

    ``row`` is the session, None where its story goes on.
    """
    parts = _headline(row)
    if not events:
        parts.append(Text("No event fits these filters.", "yellow"))
    return Group(*parts, *_lines(events, None if entries is None else [opened(each) for each in entries]))


def render_turns(row: SessionRow | None, entries: Sequence[Entry]) -> Group:
    """The events of a round, every model call as it was sent and answered; what two of them share is shown once."""
    return Group(*_headline(row), *_lines([each.event for each in entries], list(turns(entries))))


def _headline(row: SessionRow | None) -> list[RenderableType]:
    return [] if row is None else [session_line(row)]


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
    return Group(*_headline(row), *_lines([each.event for each in entries], [raw(each) for each in entries]))


def event_line(event: EventRow, whole: bool = False) -> RenderableType:
    """One event on a line of its own; ``whole``, and where something went wrong, on as many as its title takes."""
    cells = _cells(event, whole)
    if cells[-1].no_wrap:  # a table takes ten times as long to be drawn
        line = Text(no_wrap=True, overflow="ellipsis")
        for width, cell in zip(WIDTHS, cells, strict=False):
            line.append_text(cell).append(" " * (width + 1 - cell.cell_len))
        return line.append_text(cells[-1])
    table = Table.grid(padding=(0, 1))
    for width, cell in zip(WIDTHS, cells, strict=False):
        table.add_column(width=max(width, cell.cell_len), no_wrap=True)
    table.add_column(ratio=1)
    table.add_row(*cells)
    return table


def _common(before: Sequence[str], now: Sequence[str]) -> int:
    """How many messages ``now`` begins with as ``before`` does."""
    for index, (old, new) in enumerate(zip(before, now, strict=False)):
        if old != new:
            return index
    return min(len(before), len(now))


def _lines(events: Sequence[EventRow], details: Sequence[list[RenderableType]] | None) -> list[RenderableType]:
    """The line of each event, and below it what lies behind it."""
    parts: list[RenderableType] = []
    for index, event in enumerate(events):
        parts.append(event_line(event, whole=details is not None))
        parts += indented(details[index]) if details is not None else []
    return parts


def _cells(event: EventRow, whole: bool = False) -> tuple[Text, ...]:
    title = Text(clean(event.title), tone(event.kind, event.status, event.title), overflow="ellipsis")
    title.no_wrap = not whole and event.status not in WHOLE
    if event.status != "ok":
        title = (
            Text.assemble(outcome_text(event.status), " ", title)
            if title.no_wrap
            else title.append("  ").append_text(outcome_text(event.status))
        )
    return (
        Text(f"#{event.seq}", "dim"),
        Text(clean(event.started_at)[11:19], "dim"),
        Text(f"R{event.round}" if event.round else "", "dim"),
        agent_text(event.agent),
        styled(event.kind.replace("_", " "), "dim"),
        title,
    )

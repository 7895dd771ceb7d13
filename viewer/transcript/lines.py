"""The story of a session: one line per event. Nothing is loaded here that only opened events need."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.records import EventRow, SessionRow
from learning_signal.viewer.events import tone
from learning_signal.viewer.reports.log import session_line
from learning_signal.viewer.text import agent_text, clean, outcome_text, styled

WIDTHS = (5, 8, 3, 11, 11)
"""Of number, time, round, agent and kind."""
WHOLE = ("error", "refused", "interrupted")
"""Events with this status have their whole sentence, on as many lines as it takes."""


def render_lines(row: SessionRow | None, events: Sequence[EventRow]) -> Group:
    """Events with one line each; ``row`` is their session, None where its story goes on."""
    nothing = [] if events else [Text("No event fits these filters.", "yellow")]
    return Group(*headline(row), *nothing, *map(event_line, events))


def headline(row: SessionRow | None) -> list[RenderableType]:
    """What stands above the events of a session."""
    return [] if row is None else [session_line(row)]


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

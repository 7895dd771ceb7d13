"""An event on a page: a line, and what lies behind it below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape

from learning_signal.ledger.read.records import EventRow
from learning_signal.viewer.events import tone
from learning_signal.viewer.page.markup import classes, line
from learning_signal.viewer.text import agent_text, clean, outcome_text


def event_pieces(event: EventRow, behind: Sequence[str]) -> list[str]:
    """An event as HTML, in pieces: ``behind`` is that of what lies behind it; a line alone where there is none."""
    if not any(behind):
        return [f'<div class="event" {facts(event)}>{summary(event)} {permalink(event)}</div>']
    head = f'<details class="event" {facts(event)}><summary>{summary(event)}</summary><div class="behind">'
    return [head, *behind, f"{permalink(event)}</div></details>"]


def permalink(event: EventRow) -> str:
    """The address of an event on its page; it stands outside of what is clicked to open the event."""
    return f'<a href="#e{event.seq}">¶</a>'


def facts(event: EventRow) -> str:
    """The attributes by which an event is found and filtered."""
    return f'id="e{event.seq}" data-agent="{_plain(event.agent or "session")}" data-kind="{_plain(event.kind)}"'


def summary(event: EventRow) -> str:
    """The line of an event."""
    style = " ".join(classes([tone(event.kind, event.status, event.title)]))
    status = "" if event.status == "ok" else f" {line(outcome_text(event.status))}"
    time = escape(clean(event.started_at)[11:19])
    return (
        f'<span class="number">#{event.seq}</span> <time>{time}</time> '
        f"{line(agent_text(event.agent))} <i>{_plain(event.kind.replace('_', ' '))}</i> "
        f'<span class="{style}">{escape(clean(event.title))}</span>{status}'
    )


@lru_cache(maxsize=256)
def _plain(word: str) -> str:
    """The name of an agent or of a kind: there are few."""
    return escape(clean(word))

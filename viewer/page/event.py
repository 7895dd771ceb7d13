"""An event on a page: a line, and what lies behind it below."""

from __future__ import annotations

from html import escape

from learning_signal.ledger.read.records import EventRow
from learning_signal.viewer.events import tone
from learning_signal.viewer.page.markup import classes, line
from learning_signal.viewer.text import agent_text, clean, outcome_text


def event_html(event: EventRow, behind: str) -> str:
    """An event with the HTML of what lies behind it; a line alone where that is empty."""
    if not behind:
        return f'<div class="event" {facts(event)}>{summary(event)} {permalink(event)}</div>'
    return (
        f'<details class="event" {facts(event)}><summary>{summary(event)}</summary>'
        f'<div class="behind">{behind}{permalink(event)}</div></details>'
    )


def permalink(event: EventRow) -> str:
    """The address of an event on its page; it stands outside of what is clicked to open the event."""
    return f'<a class="number" href="#e{event.seq}" aria-label="link to event {event.seq}">¶</a>'


def facts(event: EventRow) -> str:
    """The attributes by which an event is found and filtered."""
    agent = escape(clean(event.agent or "session"))
    return f'id="e{event.seq}" data-agent="{agent}" data-kind="{escape(clean(event.kind))}"'


def summary(event: EventRow) -> str:
    """The line of an event."""
    kind, style = event.kind.replace("_", " "), " ".join(classes([tone(event.kind, event.status, event.title)]))
    status = "" if event.status == "ok" else f" {line(outcome_text(event.status))}"
    time = escape(clean(event.started_at)[11:19])
    return (
        f'<span class="number">#{event.seq}</span> <time>{time}</time> '
        f"{line(agent_text(event.agent))} <i>{escape(clean(kind))}</i> "
        f'<span class="{style}">{escape(clean(event.title))}</span>{status}'
    )

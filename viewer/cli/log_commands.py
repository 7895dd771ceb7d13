"""The commands that read a log: list, show, search, plot, forecasts, and explain; compare two sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learning_signal.viewer.cli.options import (
    LEDGER,
    AsJson,
    ByAgent,
    ByKind,
    ByRound,
    First,
    Ledger,
    Place,
    Second,
    whole,
)
from learning_signal.viewer.cli.places import place_for
from learning_signal.viewer.cli.terminal import err, log_to, out, plain_data, show_json

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.records import EventRow

SCREEN, PAGE = 50, 200
"""Events that are read and shown first, and at a time after that."""


class Measure(StrEnum):
    """What a plot shows."""

    SPARSE_RETURN = "sparse_return"
    PROGRESS = "progress"


def log_list(
    ledger: Ledger = LEDGER,
    limit: Annotated[int, typer.Option(parser=whole, metavar="N", help="Most sessions to list.")] = 20,
    as_json: AsJson = False,
) -> int:
    """List the sessions of a log, newest first."""
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.reports.log import render_sessions

    with Reader.open(ledger) as reader:
        rows, strange = reader.sessions(limit=limit), reader.strange_sessions()
        if strange:
            from loguru import logger

            log_to(err)
            logger.warning(
                "Left out: {} session(s) with an id such as {!r}, expected ids like 20261122-154501-k3f, as this "
                "program writes them; ask whoever gave you the log.",
                len(strange),
                strange[0][:60],
            )
        if as_json:
            return show_json(plain_data(rows))
        if rows or not strange:
            out.print(render_sessions(rows, ledger))
    return 0


def log_show(
    place: Place = "latest",
    agent: ByAgent = None,
    round: ByRound = None,
    kind: ByKind = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    status: Annotated[str | None, typer.Option(help="Only events that are ok, pending, error, refused ...")] = None,
    text: Annotated[str | None, typer.Option(help="Only events in which these words occur.")] = None,
    full: Annotated[bool, typer.Option("--full", "-v", help="Open every event: words, arguments, results.")] = False,
    as_stored: Annotated[bool, typer.Option("--raw", help="Open every event as it is stored.")] = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Show what happened in a session, one line per event; a round or an event is opened.

    SESSION#286 shows one event, a model call as it was sent and answered; SESSION/R2 the turns of a round.
    """
    from learning_signal.ledger.read.query import find_place
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.transcript.lines import render_lines

    with Reader.open(ledger) as reader:
        found = find_place(reader, place)
        row = reader.session(found.session)
        if found.event is not None:
            entry = reader.entry(found.event)
            if as_json:
                return show_json(plain_data(entry))
            from learning_signal.viewer.transcript.story import render_entry

            out.print(render_entry(entry, as_stored=as_stored))
            return 0
        whole_round = found.round is not None
        filters: dict[str, Any] = {
            "agent": agent,
            "round": found.round if whole_round else round,
            "kind": kind,
            "status": status,
        }
        opens = full or as_stored or whole_round
        containing = None
        if text is not None:
            from learning_signal.ledger.read.events.search import search

            containing = {hit.event.seq for hit in search(reader, text, session=row.id, limit=None)}
        # A round is opened as a whole, since its turns are told apart; everything else is shown as it is read.
        pages = _pages(reader, row.id, not (whole_round or as_json), containing, **filters, tool=tool)
        begun = False
        for events in pages:
            entries = list(reader.entries(events)) if opens else None
            if as_json:
                return show_json(plain_data(events if entries is None else entries))
            head = None if begun else row
            if entries is None:
                out.print(render_lines(head, events))
            else:
                from learning_signal.viewer.transcript.story import render_events, render_raw, render_turns

                opened = render_raw if as_stored else render_turns if whole_round else render_events
                out.print(opened(head, entries))
            begun = True
        if begun:
            return 0
        if not reader.events(row.id, **filters, tool=tool, limit=1):
            refuse_unknown(f"session {row.id}", reader.events(row.id), **filters)
        if as_json:
            return show_json([])
        out.print(render_lines(row, []))
        return 0


def _pages(
    reader: Reader, session: str, piecewise: bool, containing: set[int] | None, **filters: Any
) -> Iterator[list[EventRow]]:
    """The chosen events, all of them or as they are read, without pages that have none."""
    after, limit = 0, SCREEN if piecewise else None
    while events := reader.events(session, **filters, after_seq=after, limit=limit):
        after, limit = events[-1].seq, PAGE if piecewise else None
        chosen = [event for event in events if containing is None or event.seq in containing]
        if chosen:
            yield chosen


def refuse_unknown(place: str, events: Sequence[EventRow], **filters: str | int | None) -> None:
    """``LedgerError`` where a filter matches no event of ``place``; one that is None filters nothing."""
    from learning_signal.ledger.errors import LedgerError

    for name, value in filters.items():
        there = sorted({getattr(event, name) for event in events} - {None})
        if value is not None and value not in there:
            raise LedgerError(
                f"Found --{name} {value}, expected one that {place} has: {', '.join(map(str, there)) or 'it has none'}."
            )


def log_search(
    text: Annotated[str, typer.Argument(help="Words to look for in messages, arguments and results.")],
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    agent: ByAgent = None,
    round: ByRound = None,
    kind: ByKind = None,
    limit: Annotated[int, typer.Option(parser=whole, metavar="N", help="Most hits to show.")] = 20,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Search the messages, arguments and results of all sessions."""
    from learning_signal.ledger.read.events.search import search
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.reports.log import render_hits

    with Reader.open(ledger) as reader:
        chosen = reader.session(session).id if session else None
        hits = search(reader, text, session=chosen, agent=agent, round=round, kind=kind, limit=limit)
        if chosen is not None and not hits:
            refuse_unknown(f"session {chosen}", reader.events(chosen), agent=agent, round=round, kind=kind)
        if as_json:
            return show_json(plain_data(hits))
        out.print(render_hits(text, hits))
        return 0


def log_plot(
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]...", help="Sessions of one task. [latest]")
    ] = None,
    measure: Annotated[Measure, typer.Option(help="What is drawn.")] = Measure.SPARSE_RETURN,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="FILE.svg, .png or .pdf. [curve.svg in the session's folder beside the log]"),
    ] = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Draw a session over total env steps of training, with its rounds and decisions; or several, with intervals.

    Sessions that differ in their seed alone are taken together: their median, in a band for it.
    """
    from learning_signal.ledger.read.across.seeds import curves_of
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.tables.curve import session_curve
    from learning_signal.viewer.pictures.files import refuse_other_forms, write_picture
    from learning_signal.viewer.reports.seeds_plot import draw_sessions
    from learning_signal.viewer.reports.session_plot import draw

    refuse_other_forms(to)
    with Reader.open(ledger) as reader:
        chosen = list(dict.fromkeys(reader.session_id(each) for each in sessions or ["latest"]))
        curve: Any
        if len(chosen) == 1:
            curve = session_curve(reader, chosen[0], measure.value)
            picture, file = draw(curve), place_for(ledger, chosen[0], "curve.svg", to)
        else:
            curve = curves_of(reader, chosen, measure.value)
            picture, file = draw_sessions(curve), place_for(ledger, "", "curves.svg", to)
        write_picture(picture, file)
        if as_json:
            return show_json({"file": str(file), **plain_data(curve)})
        out.print(str(file), markup=False, soft_wrap=True)
        return 0


def log_forecasts(
    session: Annotated[str | None, typer.Option(help="Only this session. [all of the log]")] = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """How well the agents forecast: Brier score and calibration, by agent and backend."""
    from learning_signal.ledger.read.forecasts import forecasts_of, records_of
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.forecasts import render_forecasts

    with Reader.open(ledger) as reader:
        if session is None:
            chosen = [each.id for each in reversed(reader.sessions(limit=None))]
        else:
            chosen = [reader.session(session).id]
        forecasts = [each for one in chosen for each in forecasts_of(reader, one)]
        records = records_of(forecasts)
        if as_json:
            return show_json({"records": plain_data(records), "forecasts": plain_data(forecasts)})
        out.print(render_forecasts(records, len({each.session for each in forecasts})))
        return 0


def explain(
    decision: Annotated[str, typer.Argument(help="SESSION/R2, SESSION/2, or 'latest'.")] = "latest",
    brief: Annotated[bool, typer.Option("--brief", help="On one screen, a line for each part.")] = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Why a change was made: diagnosis, proposals, branches, statistics, verdict, and what would have changed it."""
    from learning_signal.ledger.read.decision.explain import explain as chain_of
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.reports.explain import render_decision

    with Reader.open(ledger) as reader:
        chain = chain_of(reader, decision)
        if as_json:
            return show_json(plain_data(chain))
        out.print(render_decision(chain, brief))
        return 0


def compare(first: First, second: Second, ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """Two sessions side by side: backends, rounds, results and costs, and their candidates branch by branch."""
    from learning_signal.ledger.read.across.compare import compare_sessions
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.side_by_side import render_comparison

    with Reader.open(ledger) as reader:
        found = compare_sessions(reader, first, second)
        if as_json:
            return show_json(plain_data(found))
        out.print(render_comparison(found))
        return 0

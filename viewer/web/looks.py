"""What each page shows of a log, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from markupsafe import Markup, escape
from rich.console import Group, RenderableType
from rich.text import Text

from learning_signal.ledger.questions import open_question
from learning_signal.ledger.read.across.compare import compare_sessions
from learning_signal.ledger.read.across.parting import parting
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.events.pages import event_page
from learning_signal.ledger.read.events.search import CLOSE, OPEN, search
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionRow, EventRow, SessionRow
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.viewer.across.parting import render_parting
from learning_signal.viewer.comparisons import comparison_lines, comparison_title
from learning_signal.viewer.events import parsed, verdict_text
from learning_signal.viewer.page.decisions import decision_parts
from learning_signal.viewer.page.drawing import start_scene
from learning_signal.viewer.page.event import facts, summary
from learning_signal.viewer.page.plots import arms_plot
from learning_signal.viewer.page.report import MEASURES, NOTHING_DRAWN
from learning_signal.viewer.reports.log import TRAINING, decisions_text, session_line
from learning_signal.viewer.reports.session_plot import draw, ends
from learning_signal.viewer.text import MISSING, agent_text, clean, count, outcome_text, shaping_line
from learning_signal.viewer.transcript.opened import opened
from learning_signal.viewer.transcript.story import render_entry
from learning_signal.viewer.transcript.values import readable

SESSIONS = 50
"""Of one page."""
EVENTS = 200
"""Of one page of a transcript."""
HITS = 50
"""Of a search."""
FILTERS = ("agent", "round", "kind", "status", "text")
"""Of a transcript."""
MOST_TO_CHOOSE = 500
"""Sessions that a list offers; another can be written."""
Values = dict[str, Any]


def sessions(reader: Reader, number: int) -> Values:
    """A page of the sessions, newest first."""
    ids = reader.session_ids()
    pages = max(1, -(-len(ids) // SESSIONS))
    chosen = min(max(number, 1), pages)
    rows = [reader.session(each) for each in ids[(chosen - 1) * SESSIONS : chosen * SESSIONS]]
    return {
        "rows": [_listed(each) for each in rows],
        "number": chosen,
        "pages": pages,
        "total": len(ids),
        "strange": len(reader.strange_sessions()),
    }


def _listed(row: SessionRow) -> Values:
    trained = row.env_steps_main + row.env_steps_branches + row.env_steps_twin
    return {
        "id": row.id,
        "status": outcome_text(row.status),
        "task": clean(row.task),
        "algorithm": clean(row.algorithm),
        "seed": row.seed,
        "rounds": MISSING if row.kind == TRAINING else row.rounds,
        "decisions": Text("training", "dim") if row.kind == TRAINING else decisions_text(row),
        "env_steps": count(trained),
        "started": clean(row.started_at)[:16].replace("T", " "),
        "asks": row.asks is not None,
    }


def now(reader: Reader, row: SessionRow) -> Values:
    """What of a session changes while it runs, but for its transcript."""
    curves = [session_curve(reader, row, measure) for measure in MEASURES]
    return {
        "row": row,
        "line": session_line(row),
        "curves": [(Markup(draw(each, links=True)), ends(each)) for each in curves if each.points],  # noqa: S704 - a picture of ours
        "decisions": [_decided(each) for each in reader.decisions(row.id)],
        "question": _question(reader, row),
        "hears": row.kind != TRAINING and row.status != "done",
    }


def _decided(decision: DecisionRow) -> Values:
    return {
        "round": decision.round,
        "action": outcome_text(decision.action.replace("_", " ")),
        "candidate": clean((decision.candidate_id or "").rpartition("/")[2]),
        "by": agent_text(decision.decided_by),
        "reason": clean(decision.reason),
        "event": decision.event_seq,
    }


def _question(reader: Reader, row: SessionRow) -> Values | None:
    """The promotion that waits for a person, with the evidence that it rests on."""
    asked = None if row.asks is None else open_question(reader.rows, row.id)
    if asked is None:
        return None
    candidate = reader.entry(asked.seq).reference or {}
    shaping = parsed(candidate.get("shaping"))
    comparisons = [each for each in reader.comparisons(row.id) if each.round == asked.round]
    return {
        "id": asked.id,
        "round": asked.round,
        "name": clean(asked.candidate.rpartition("/")[2]),
        "shaping": shaping_line(shaping) if isinstance(shaping, Mapping) else MISSING,
        "rationale": clean(str(candidate.get("rationale") or MISSING)),
        "verdicts": [
            {"record": verdict_text(each.outcome, each.reason), "reading": clean(each.reading or "")}
            for each in reader.verdicts(row.id, asked.round)
        ],
        "evidence": [_compared(each) for each in comparisons],
    }


def _compared(comparison: ComparisonRow) -> Values:
    """A comparison as a picture, which may be empty, and in numbers."""
    return {
        "title": "Screen" if comparison.purpose == "screen" else comparison_title(comparison),
        "plot": Markup(arms_plot(comparison)),  # noqa: S704 - a picture of ours
        "numbers": Group(*comparison_lines(comparison)),
    }


def transcript(reader: Reader, row: SessionRow, number: int | None, filters: Mapping[str, Any]) -> Values:
    """A page of the transcript: the last where a session runs and none is asked for."""
    if number is None and row.status != "running":
        number = 1
    page = event_page(reader, row.id, number, EVENTS, **filters)
    (last,) = reader.rows("SELECT max(seq) AS seq FROM events WHERE session_id = ?", (row.id,))
    return {
        "row": row,
        "page": page,
        "events": [Markup(event_html(each)) for each in page.events],  # noqa: S704 - it escapes all it is given
        "last": last["seq"] or 0,
        "filters": filters,
        "known": _known(reader, row.id),
    }


def _known(reader: Reader, session: str) -> dict[str, list[Any]]:
    """The values that each filter can have."""
    found: dict[str, list[Any]] = {}
    for columns in (("agent", "kind", "status"), ("round",)):  # apart: there are many rounds, of few of the others
        rows = reader.rows(f"SELECT DISTINCT {', '.join(columns)} FROM events WHERE session_id = ?", (session,))
        found |= {name: sorted({row[name] for row in rows} - {None}) for name in columns}
    return found


def event_html(event: EventRow) -> str:
    """An event whose inside is asked for when it is opened."""
    return (
        f'<details class="event" data-round="{event.round or ""}" {facts(event)}><summary>{summary(event)}</summary>'
        f'<div class="behind" hx-get="/event/{event.seq}/behind" hx-trigger="toggle from:closest details once">'
        '<p class="dim">…</p></div></details>'
    )


def behind(reader: Reader, seq: int) -> Values:
    """The inside of an event."""
    entry = reader.entry(seq)
    return {"seq": seq, "shown": Group(*opened(entry)), "sent": bool(entry.llm_calls)}


def event(reader: Reader, seq: int) -> Values:
    """One event in full; a model call as it was sent and answered."""
    entry = reader.entry(seq)
    row = entry.event
    beside = "SELECT {0}(seq) AS seq FROM events WHERE session_id = ? AND seq {1} ?"
    (before,) = reader.rows(beside.format("max", "<"), (row.session_id, seq))
    (after,) = reader.rows(beside.format("min", ">"), (row.session_id, seq))
    return {
        "session": row.session_id,
        "event": row,
        "title": f"#{seq} {clean(row.kind.replace('_', ' '))}",
        "shown": render_entry(entry),
        "before": before["seq"],
        "after": after["seq"],
    }


def decision(reader: Reader, session: str, round_: int, drawn: Mapping[str, Any] = NOTHING_DRAWN) -> Values:
    """A decision explained, with its pictures; ``drawn`` is as in ``viewer.page.report``."""
    identity = reader.session_id(session)
    chain = explain(reader, f"{identity}/R{round_}")
    rounds = [each.round for each in reader.decisions(identity)]
    (part,) = decision_parts([chain], drawn)
    return {
        "session": identity,
        "decision": part,
        "start": Markup(start_scene(drawn["start"])) if drawn["start"] else None,  # noqa: S704 - it escapes all
        "note": drawn["note"] and clean(drawn["note"]),
        "before": max((each for each in rounds if each < round_), default=None),
        "after": min((each for each in rounds if each > round_), default=None),
        "calls": _calls(reader, identity, round_),
    }


def _calls(reader: Reader, session: str, round_: int) -> list[Values]:
    """The model calls of a round: what each agent saw when it spoke."""
    found = reader.events(session, round=round_, kind="llm_call")
    return [{"seq": each.seq, "agent": agent_text(each.agent), "title": clean(each.title)} for each in found]


def about(reader: Reader, session: str) -> Values:
    """What a session costs, who speaks in it, and how it is configured."""
    identity = reader.session_id(session)
    agents = [(each.role, clean(each.spec), clean(each.source)) for each in reader.agents(identity)]
    costs, configuration = readable(asdict(reader.costs(identity))), readable(reader.config(identity))
    return {"agents": agents, "costs": costs, "configuration": configuration}


def comparison(reader: Reader, first: str, second: str) -> Values:
    """Two sessions side by side, and where they part; without both, the sessions to choose from."""
    ids = reader.session_ids()
    shown: RenderableType | None = None
    if first and second:
        first, second = reader.session_id(first), reader.session_id(second)
        shown = render_parting(parting(reader, first, second), compare_sessions(reader, first, second))
    return {"ids": ids[:MOST_TO_CHOOSE], "first": first, "second": second, "shown": shown}


def hits(reader: Reader, text: str, session: str) -> Values:
    """Where words occur, the best matches first."""
    chosen = reader.session_id(session) if session else None
    found = search(reader, text, session=chosen, limit=HITS) if text.strip() else []
    return {
        "text": text,
        "session": chosen,
        "most": HITS,
        "hits": [
            {
                "session": each.event.session_id,
                "seq": each.event.seq,
                "round": each.event.round,
                "agent": agent_text(each.event.agent),
                "kind": clean(each.event.kind.replace("_", " ")),
                "place": each.place,
                "snippet": _marked(clean(each.snippet)),
            }
            for each in found
        ],
    }


def _marked(snippet: str) -> Markup:
    """A snippet whose found words are marked."""
    return Markup(escape(snippet).replace(escape(OPEN), Markup("<mark>")).replace(escape(CLOSE), Markup("</mark>")))

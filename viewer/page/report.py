"""The report of a session: one HTML file that needs no network, no server and, but for the transcript, no script.

The transcript is stored compressed, a part for each round and each stage between them, and unpacked by the page's own
script when it is opened; so are the decisions of a long session, unpacked at once. The page allows its own scripts and
styles, by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import Any

from rich.console import Group, RenderableType

from learning_signal.ledger.read.decision.explain import explain_all
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import EventRow
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.viewer.page.decisions import decision_parts, fitting
from learning_signal.viewer.page.drawing import start_scene
from learning_signal.viewer.page.event import event_pieces
from learning_signal.viewer.page.markup import Known, markup
from learning_signal.viewer.page.packed import Packed
from learning_signal.viewer.reports.log import session_line
from learning_signal.viewer.reports.session_plot import STYLE as PLOT_STYLE
from learning_signal.viewer.reports.session_plot import draw, ends
from learning_signal.viewer.text import clean
from learning_signal.viewer.transcript.story import turns
from learning_signal.viewer.transcript.values import readable

MEASURES = ("sparse_return", "progress")
STATIC = ("page.css", "packed.js", "page.js", "player.js")
NOTHING_DRAWN: Mapping[str, Any] = {"note": None, "start": None, "rounds": {}}
WHOLE = 900_000
"""Characters of a page with which no more episodes are put into it; of the promotions without them it is said."""
PLAIN = 150_000
"""Characters of decisions that stand in a page as they are; if they are more, the page's script unpacks them."""


@dataclass(frozen=True)
class TranscriptPart:
    """The events of a round, or of what lies between two rounds."""

    title: str
    first: int
    last: int
    packed: str
    """Its HTML, see ``viewer.page.packed``."""


def session_page(reader: Reader, session: str = "latest", drawn: Mapping[str, Any] = NOTHING_DRAWN) -> str:
    """The report of a session as an HTML document.

    ``drawn`` is what is drawn of it besides its log, see ``tools.training.drawn``.
    """
    from markupsafe import Markup

    from learning_signal.viewer.page.templates import environment

    row = reader.session(session)
    here = files("learning_signal.viewer.page")
    style, *scripts = ((here / "static" / name).read_text(encoding="utf-8") for name in STATIC)
    curves = [session_curve(reader, row.id, measure) for measure in MEASURES]
    templates = environment("learning_signal.viewer.page")
    events, packed = reader.events(row.id), Packed()
    transcript = _transcript(reader, events, packed)
    decisions = decision_parts(explain_all(reader, row.id), drawn)
    bodies = [templates.get_template("decision.html").render(decision=each) for each in decisions]
    if sum(map(len, bodies)) > PLAIN:
        decisions = [replace(each, packed=packed.part([body])) for each, body in zip(decisions, bodies, strict=True)]
    lines = packed.lines()
    taken = sum(len(each.packed) for each in transcript) + len(lines)
    taken += sum(len(each.packed or body) for each, body in zip(decisions, bodies, strict=True))
    return templates.get_template("report.html").render(
        row=row,
        line=session_line(row),
        style=Markup(style),  # noqa: S704 - a file of ours
        scripts=[Markup(each) for each in scripts],  # noqa: S704
        hashes={"style": [_hash(style), _hash(PLOT_STYLE)], "script": [_hash(each) for each in scripts]},
        curves=[(Markup(draw(each, links=True)), ends(each)) for each in curves if each.points],  # noqa: S704
        decisions=fitting(decisions, WHOLE - taken),
        start=Markup(start_scene(drawn["start"])) if drawn["start"] else None,  # noqa: S704 - it escapes all it is given
        note=drawn["note"] and clean(drawn["note"]),
        agents=[
            {"role": each.role, "spec": clean(each.spec), "source": clean(each.source)}
            for each in reader.agents(row.id)
        ],
        costs=readable(asdict(reader.costs(row.id))),
        configuration=readable(reader.config(row.id)),
        parts=transcript,
        lines=lines,
        kinds=sorted({each.kind for each in events}),
        speakers=sorted({each.agent for each in events} - {None}),
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _transcript(reader: Reader, events: Sequence[EventRow], packed: Packed) -> list[TranscriptPart]:
    """The parts of the transcript in order; an event is read, shown and forgotten before the next."""
    known: Known = {}
    shown = zip(_titles(events), events, turns(reader.entries(events)), strict=True)
    parts = []
    for title, group in groupby(shown, key=itemgetter(0)):
        numbers, pieces = list[int](), list[str]()
        for _, event, behind in group:
            numbers.append(event.seq)
            pieces += event_pieces(event, [markup(each, known) for each in _apart(behind)])
        parts.append(TranscriptPart(title, numbers[0], numbers[-1], packed.part(pieces)))
    return parts


def _apart(shown: Iterable[RenderableType]) -> Iterator[RenderableType]:
    """What is shown, one by one: the same comes back in other company."""
    for each in shown:
        if isinstance(each, Group):
            yield from _apart(each.renderables)
        else:
            yield each


def _titles(events: Sequence[EventRow]) -> Iterator[str]:
    """The round in which each event lies, also where it is not of one: a segment that a branch is made of."""
    first = {each.round: each.seq for each in reversed(events)}
    last = {each.round: each.seq for each in events}
    begun: list[int] = []
    for event in events:
        if event.round is not None and first[event.round] == event.seq:
            begun.append(event.round)
        while begun and last[begun[-1]] < event.seq:
            begun.pop()
        yield f"Round {begun[-1]}" if begun else "Training"

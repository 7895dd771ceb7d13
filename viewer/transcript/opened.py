"""An event opened: its line, and below it what was said, called, answered and computed, readable or as it is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from learning_signal.ledger.read.records import Entry
from learning_signal.viewer.events import parsed
from learning_signal.viewer.text import MISSING, clean, count, number, shaping_line, styled
from learning_signal.viewer.transcript.indented import Indented
from learning_signal.viewer.transcript.turn import answer, facts, milliseconds, render_turn, tool_call
from learning_signal.viewer.transcript.values import readable, said

TOLD_ELSEWHERE = ("session_id", "event_seq", "id", "settings")
"""Columns of a row that its event's line or another command shows; ``--raw`` has them."""


def opened(entry: Entry, *, whole: bool = False) -> list[RenderableType]:
    """What lies behind an event's line; with ``whole`` a model call with all that was sent."""
    parts: list[RenderableType] = []
    for message in entry.messages:
        way = f"{message['source']} to {message['target']}" if message["target"] else message["source"]
        parts += [Text(clean(f"{message['type']}, {way}"), "dim"), said(str(message["body"]))]
    for call in entry.llm_calls:
        parts += [render_turn(call)] if whole else [facts(call), *answer(call)]
    for call in entry.tool_calls:
        parts += [*tool_call(str(call["name"]), str(call["arguments"])), *result(call)]
    if not parts and entry.reference is not None:
        show = _TABLES.get(str(entry.event.ref_table), _row)
        parts.append(show(entry.reference))
    return parts


def raw(entry: Entry) -> list[RenderableType]:
    """Every row of an event as it is stored, as JSON."""
    rows = [
        *(("messages", each) for each in entry.messages),
        *(("llm_calls", each) for each in entry.llm_calls),
        *(("tool_calls", each) for each in entry.tool_calls),
    ]
    if entry.reference is not None and not rows:
        rows = [(str(entry.event.ref_table), entry.reference)]
    return [
        Text.assemble((f"{table}: ", "dim"), styled(json.dumps(row, indent=1, ensure_ascii=False), lines=True))
        for table, row in rows
    ]


def indented(parts: list[RenderableType]) -> list[RenderableType]:
    """What lies behind a line, below it."""
    return [Indented(Group(*parts), " " * 6)] if parts else []


def result(call: Mapping[str, Any]) -> list[RenderableType]:
    """What a tool answered."""
    cited = f", evidence {call['evidence_id']}" if call["evidence_id"] else ""
    heading = Text(clean(f"result after {milliseconds(call['latency_ms'])}{cited}"), "dim")
    return [heading, said(str(call["result"] or "none yet"))]


def _segment(row: Mapping[str, Any]) -> RenderableType:
    """A segment on two lines: what it was made from, and what it cost."""
    made = f"segment {row['id']} from {row['parent'] or 'a fresh learner'}, seed {row['seed']}"
    shown = _shaping(row["shaping"])
    where = f"env steps {count(row['start_env_steps'])} to {count(row['end_env_steps'])}"
    spent = f"{number(row['wall_seconds'])} s" + (", computed by an earlier session" if row["reused"] else "")
    why = f"; {row['reason']}" if row["reason"] else ""
    return styled(
        f"{made}, {shown}\n{where}, {count(row.get('evaluation_env_steps'))} of evaluation, {spent}{why}", lines=True
    )


@lru_cache(maxsize=256)
def _shaping(text: str) -> str:
    """The formula of a shaping; many segments are trained under the same."""
    shaping = parsed(text)
    return shaping_line(shaping) if isinstance(shaping, Mapping) else str(text)


def _proposal(row: Mapping[str, Any]) -> RenderableType:
    """A proposal: each candidate's formula, forecast and rationale."""
    body = parsed(row["body"])
    candidates = body.get("candidates") if isinstance(body, Mapping) else None
    if not isinstance(candidates, list) or not all(isinstance(each, Mapping) for each in candidates):
        return _row(row)
    parts: list[RenderableType] = []
    for index, candidate in enumerate(candidates, 1):
        shaping = candidate.get("shaping")
        formula = shaping_line(shaping) if isinstance(shaping, Mapping) else MISSING
        parts.append(Text.assemble((f"c{index} ", "bold"), formula))
        rest = {name: each for name, each in candidate.items() if name != "shaping" and each is not None}
        parts.append(Indented(readable(rest), " " * 3))
    return Group(*parts)


def _row(row: Mapping[str, Any]) -> RenderableType:
    """A row of any other table, its JSON readable."""
    shown = {name: _value(each) for name, each in row.items() if name not in TOLD_ELSEWHERE}
    return readable(shown)


def _value(value: Any) -> Any:
    return parsed(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


_TABLES: dict[str, Callable[[Mapping[str, Any]], RenderableType]] = {"segments": _segment, "proposals": _proposal}

"""Where a replay leaves its original: the first request or fact that is another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

from learning_signal.ledger.canonical import canonical_json
from learning_signal.ledger.read.reader import Reader

Request = tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
"""The messages and the tools of a request, as JSON data."""

FACTS = {
    "diagnoses": "round, stage, body",
    "proposals": "id, round, refinement, diagnosis_id, body",
    "comparisons": "id, round, refinement, purpose, candidate_id, inputs, result, settings",
    "verdicts": "id, round, refinement, candidate_id, comparison_id, outcome, rule, reason, reading",
    "decisions": (
        "number, round, action, candidate_id, verdict_id, comparison_id, segment_from, segment_to, shaping_from, "
        "shaping_to, decided_by, reason"
    ),
}
"""What must be the same in a replay, by table: everything in a row but when, and by which code, it was written."""
_BODIES = {"body", "inputs", "result", "settings", "shaping_from", "shaping_to"}


@dataclass(frozen=True)
class Divergence:
    """The first point at which a replay is not its original."""

    event: int | None
    """Of the original; None where the original has nothing more."""
    sentence: str
    lines: tuple[str, ...] = ()
    """The difference, as ``diff -u`` writes it: - is the original."""


def request_difference(recorded: Request, asked: Request) -> tuple[str, ...]:
    """The lines in which two requests differ, messages first: ``-`` was recorded, ``+`` is asked now.

    Nothing where they are the same, in whatever order their fields stand.
    """
    first, second = (json.loads(canonical_json(list(each))) for each in (recorded, asked))
    if first == second:
        return ()
    for shown in (_pretty, _plainly):  # opened up, texts that differ in their form alone look the same
        before, after = ([*_messages(messages, shown), *_tools(tools, shown)] for messages, tools in (first, second))
        lines = tuple(unified_diff(before, after, "recorded", "asked now", n=2, lineterm=""))
        if lines:
            break
    return lines


def differing_fact(original: Reader, session: str, replay: Reader, replayed: str) -> Divergence | None:
    """The first of ``FACTS``, in the order of the original's events, that the replay has not or has otherwise."""
    found = []
    for table, columns in FACTS.items():
        pairs = _facts(original, session, table, columns), _facts(replay, replayed, table, columns)
        for (event, was), (_, now) in zip(*_filled(*pairs), strict=True):
            if was != now:
                lines = unified_diff(_pretty(was), _pretty(now), "recorded", "replayed", n=1, lineterm="")
                what = {"diagnoses": "diagnosis"}.get(table, table.removesuffix("s"))
                found.append(Divergence(event, f"The {what} is another one.", tuple(lines)))
                break
    return min(found, key=lambda each: (each.event is None, each.event or 0), default=None)


def _facts(reader: Reader, session: str, table: str, columns: str) -> list[tuple[int | None, dict[str, Any] | None]]:
    rows = reader.rows(
        f"SELECT event_seq, {columns} FROM {table} WHERE session_id = ? ORDER BY event_seq, rowid", (session,)
    )
    facts: list[tuple[int | None, dict[str, Any] | None]] = []
    for row in rows:
        event = row.pop("event_seq")
        read = {name: reader.json(value) if name in _BODIES else value for name, value in row.items()}
        facts.append((event, json.loads(json.dumps(read).replace(session, "SESSION"))))
    return facts


def _filled(first: list[Any], second: list[Any]) -> tuple[list[Any], list[Any]]:
    """Both lists at the length of the longer one; what is missing is (None, None)."""
    longest = max(len(first), len(second))
    filled = [each + [(None, None)] * (longest - len(each)) for each in (first, second)]
    return filled[0], filled[1]


def _messages(messages: Sequence[dict[str, Any]], shown: Callable[[Any], list[str]]) -> Iterator[str]:
    for place, message in enumerate(messages, start=1):
        yield f"message {place}: {message.get('type')}"
        yield from shown({name: value for name, value in message.items() if name != "type"})


def _tools(tools: Sequence[dict[str, Any]], shown: Callable[[Any], list[str]]) -> Iterator[str]:
    for tool in tools:
        yield f"tool: {tool.get('name')}"
        yield from shown(tool)


def _pretty(value: Any) -> list[str]:
    """A value in lines, one fact each; a text that holds JSON is opened up."""
    return _plainly(_opened(value))


def _plainly(value: Any) -> list[str]:
    return json.dumps(value, indent=1, ensure_ascii=False).splitlines()


def _opened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _opened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_opened(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in ("{", "["):
        try:
            return _opened(json.loads(value))
        except (ValueError, RecursionError):
            pass
    lines = value.splitlines()
    return value if len(lines) <= 1 else [_opened(line) for line in lines]

"""How a round was talked through: questions and their answers, refused calls, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import EventRow, QuestionRow, RefusedRow, RoundCost


def questions(reader: Query, events: Sequence[EventRow]) -> list[QuestionRow]:
    """The questions of a round, in order; ``events`` are all of it, here and below."""
    found: list[QuestionRow] = []
    rows = [row for row in _of(reader, "messages", events) if row["type"] in ("question", "answer")]
    for place, row in enumerate(rows):
        if row["type"] == "question":
            following = rows[place + 1] if rows[place + 1 :] and rows[place + 1]["type"] == "answer" else None
            answer = None if following is None else reader.body(following["body"])
            found.append(
                QuestionRow(
                    row["event_seq"], row["source"], row["target"] or "-", reader.body(row["body"]) or "", answer
                )
            )
    return found


def refusals(reader: Query, events: Sequence[EventRow]) -> list[RefusedRow]:
    """The calls of a round that were refused or failed, in order."""
    rows = [row for row in _of(reader, "tool_calls", events) if row["status"] in ("refused", "error")]
    return [RefusedRow(row["event_seq"], row["agent"], row["name"], _told(reader.body(row["result"]))) for row in rows]


def round_cost(reader: Query, events: Sequence[EventRow]) -> RoundCost:
    """What the models of a round used, shadows left out, and how long it took."""
    asked = [each for each in events if each.kind != "shadow"]
    calls = [row for row in _of(reader, "llm_calls", asked) if row["status"] in ("ok", "error")]
    first = min((each.started_at for each in events), default=None)
    last = max((each.ended_at or each.started_at for each in events), default=None)
    return RoundCost(
        calls=len(calls),
        tokens_in=known_sum(row["tokens_in"] for row in calls),
        tokens_out=known_sum(row["tokens_out"] for row in calls),
        usd=known_sum(row["cost_usd"] for row in calls),
        seconds=_between(first, last),
    )


def _of(reader: Query, table: str, events: Iterable[EventRow]) -> list[dict[str, Any]]:
    """The rows of a table that belong to these events, in the order in which they were written."""
    rows = reader.rows_with(table, "event_seq", (each.seq for each in events))
    return sorted(rows, key=lambda row: row["id"])


def _told(text: str | None) -> str:
    """The sentence of an error, which may stand in a JSON text."""
    words = text or "-"
    if words.startswith('"'):
        try:
            words = str(json.loads(words))
        except (ValueError, RecursionError):
            pass
    return words.removeprefix("ERROR: ").strip().partition("\n")[0] or "-"


def _between(first: str | None, last: str | None) -> float | None:
    try:
        return (datetime.fromisoformat(str(last)) - datetime.fromisoformat(str(first))).total_seconds()
    except (ValueError, TypeError):
        return None

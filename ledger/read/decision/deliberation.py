"""How a round was talked through: questions and their answers, refused calls, and what it cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.query import Query


@dataclass(frozen=True)
class QuestionRow:
    """What one agent asked another, and what it was answered."""

    event_seq: int
    asker: str
    asked: str
    question: str
    answer: str | None
    """None where the session ended before."""


@dataclass(frozen=True)
class RefusedRow:
    """A call of a tool that was answered with an error."""

    event_seq: int
    agent: str
    tool: str
    sentence: str
    """What the agent was told, the first line of it."""


@dataclass(frozen=True)
class RoundCost:
    """What the models of a round used; None is unknown, and of embedded backends 0."""

    calls: int
    tokens_in: int | None
    tokens_out: int | None
    usd: float | None
    seconds: float | None
    """From its first event to its last, pauses included."""


def questions(reader: Query, session: str, round: int) -> list[QuestionRow]:
    """The questions of a round, in order."""
    rows = reader.rows(
        "SELECT m.*, e.round FROM messages m JOIN events e ON e.seq = m.event_seq "
        "WHERE m.session_id = ? AND e.round = ? AND m.type IN ('question', 'answer') ORDER BY m.id",
        (session, round),
    )
    found: list[QuestionRow] = []
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


def refusals(reader: Query, session: str, round: int) -> list[RefusedRow]:
    """The calls of a round that were refused or failed, in order."""
    rows = reader.rows(
        "SELECT event_seq, agent, name, result FROM tool_calls "
        "WHERE session_id = ? AND round = ? AND status IN ('refused', 'error') ORDER BY id",
        (session, round),
    )
    return [RefusedRow(row["event_seq"], row["agent"], row["name"], _told(reader.body(row["result"]))) for row in rows]


def round_cost(reader: Query, session: str, round: int) -> RoundCost:
    """What the models of a round used, shadows left out, and how long it took."""
    calls = reader.rows(
        "SELECT c.tokens_in, c.tokens_out, c.cost_usd FROM llm_calls c JOIN events e ON e.seq = c.event_seq "
        "WHERE c.session_id = ? AND e.round = ? AND e.kind <> 'shadow' AND c.status IN ('ok', 'error')",
        (session, round),
    )
    (span,) = reader.rows(
        "SELECT min(started_at) first, max(coalesce(ended_at, started_at)) last FROM events "
        "WHERE session_id = ? AND round = ?",
        (session, round),
    )
    return RoundCost(
        calls=len(calls),
        tokens_in=known_sum(row["tokens_in"] for row in calls),
        tokens_out=known_sum(row["tokens_out"] for row in calls),
        usd=known_sum(row["cost_usd"] for row in calls),
        seconds=_between(span["first"], span["last"]),
    )


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

"""Recall what a step had received before it was interrupted: the model's reply and finished tool calls."""

from __future__ import annotations

from dataclasses import dataclass

from learning_signal.ledger.write.rows import RowWriter


@dataclass(frozen=True)
class FinishedCall:
    """A tool call that has happened; it is never repeated."""

    name: str
    status: str
    """ok, error or refused."""
    result: str
    """As shown to the model."""
    evidence_id: str | None


@dataclass(frozen=True)
class RecordedReply:
    """A usable reply of a model, and what it answered."""

    id: int
    request_hash: str
    spec: str
    reply: str
    """JSON."""


def recall_replies(ledger: RowWriter, session_id: str, agent: str, after: int, mark: str) -> list[RecordedReply]:
    """The replies of an agent's models whose JSON contains ``mark``, from the row behind ``after`` on."""
    rows = ledger.rows(
        "SELECT llm_calls.id, request_hash, spec, bodies.body AS reply FROM llm_calls "
        "JOIN bodies ON bodies.hash = llm_calls.reply "
        "WHERE llm_calls.id > ? AND session_id = ? AND agent = ? AND status = 'ok' AND instr(bodies.body, ?) "
        "ORDER BY llm_calls.id",
        (after, session_id, agent, mark),
    )
    return [RecordedReply(**row) for row in rows]


def recall_reply(ledger: RowWriter, session_id: str, request_hash: str) -> str | None:
    """The reply (JSON) to the request in this session, or None."""
    rows = ledger.rows(
        "SELECT bodies.body FROM llm_calls JOIN bodies ON bodies.hash = llm_calls.reply "
        "WHERE session_id = ? AND request_hash = ? AND status = 'ok' ORDER BY llm_calls.id LIMIT 1",
        (session_id, request_hash),
    )
    return rows[0]["body"] if rows else None


def recall_call(ledger: RowWriter, session_id: str, call_id: str) -> FinishedCall | None:
    """The finished tool call with this id, or None. An interrupted call has not happened."""
    rows = ledger.rows(
        "SELECT name, status, bodies.body AS result, evidence_id FROM tool_calls "
        "JOIN bodies ON bodies.hash = tool_calls.result "
        "WHERE session_id = ? AND call_id = ? AND status IN ('ok', 'error', 'refused') "
        "ORDER BY tool_calls.id LIMIT 1",
        (session_id, call_id),
    )
    return FinishedCall(**rows[0]) if rows else None

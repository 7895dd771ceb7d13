"""The record of a round for the Coordinator: screens and confirmations in full, questions, and phases given up."""

from __future__ import annotations

from typing import Any

from learning_signal.tools.claims.keep import said
from learning_signal.tools.context import SessionContext
from learning_signal.tools.round.comparisons import confirmation_card
from learning_signal.tools.round.screens import screen_card
from learning_signal.tools.state import VerdictRecord


def screens_told(context: SessionContext) -> list[dict[str, Any]]:
    """Every screen of the round, every rung and every further seed of it: all arms, and who could be confirmed."""
    return [{"refinement": each.refinement} | screen_card(context, each) for each in context.round.screens]


def verdicts_told(context: SessionContext) -> list[dict[str, Any]]:
    """Every confirmation of the round, then what was reported without one; with the Validator's choice and reading."""
    reported = {each.comparison: each for each in context.round.verdicts if each.comparison is not None}
    told = []
    for record in context.round.confirmations:
        verdict = reported.get(record.comparison or "")
        told.append(
            {"refinement": record.refinement}
            | confirmation_card(context, record)
            | _choice(context, record)
            | ({} if verdict is None else _reading(context, verdict))
        )
    names = ("refinement", "candidate", "outcome", "measure", "reason")
    nothing = [each for each in context.round.verdicts if each.comparison is None]
    return [*told, *(each.model_dump(include=set(names)) | _reading(context, each) for each in nothing)]


def _reading(context: SessionContext, verdict: VerdictRecord) -> dict[str, Any]:
    return said(context, "validator", verdict.reading, "verdicts", verdict.id)


def _choice(context: SessionContext, record: VerdictRecord) -> dict[str, Any]:
    """Why the Validator had this candidate confirmed, where the ranking had another one first."""
    attempt = context.round.confirmations.index(record)
    own = ("confirm", attempt, record.candidate)
    branches = [each for each in context.round.branches if (each.purpose, each.attempt, each.arm) == own]
    if not branches or not branches[0].reason:
        return {}
    (row,) = context.ledger.find("branches", id=context.row_id(branches[0].name))
    return {"choice": said(context, "validator", branches[0].reason, "events", str(row["event_seq"]))}


def questions_asked(context: SessionContext) -> list[dict[str, Any]]:
    """The questions that the Coordinator has put in this round, and their answers."""
    events = {row["seq"] for row in _events(context, "message")}
    rows = [row for row in context.ledger.find("messages", session_id=context.session) if row["event_seq"] in events]
    exchanged = {name: [row for row in rows if row["type"] == name] for name in ("question", "answer")}
    return [
        {"agent": asked["target"], "question": _body(context, asked)}
        | said(context, asked["target"], _body(context, answered), "events", str(answered["event_seq"]))
        for asked, answered in zip(exchanged["question"], exchanged["answer"], strict=True)
    ]


def given_up(context: SessionContext) -> list[str]:
    """What the round says of phases that ended without their result."""
    return [row["title"] for row in _events(context, "error")]


def _events(context: SessionContext, kind: str) -> list[dict[str, Any]]:
    return context.ledger.find("events", session_id=context.session, round=context.round.number, kind=kind)


def _body(context: SessionContext, message: dict[str, Any]) -> str:
    (row,) = context.ledger.find("bodies", hash=message["body"])
    return str(row["body"])

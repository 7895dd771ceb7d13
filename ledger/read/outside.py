"""What was asked of a session from outside, and what it answered; and who proposed its candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.query import Query, event_filter
from learning_signal.ledger.wording import OUTSIDER


@dataclass(frozen=True)
class RequestRow:
    """A request that the session has heard, with its answer."""

    id: str
    kind: str
    """propose or launch."""
    by: str
    """Who asks: user@host and the program."""
    at: str
    """When it was sent, as UTC ISO 8601 text."""
    asked: str
    """The candidates as JSON text, or the reason of a launch."""
    status: str
    """waiting, accepted or refused."""
    answer: str | None
    """Of the session, in words; None while it waits."""
    candidates: tuple[str, ...]
    """What its candidates are called, as R2/c3; empty where none was accepted."""
    round: int | None
    """That took it up, or began for it; None where none did."""
    refinement: int | None
    """Whose proposal examined its candidates; None where none did."""
    stage: int | None
    """At whose end the round began that it asked for."""


def requests_of(reader: Query, session: str) -> list[RequestRow]:
    """The requests of a session, in the order in which it heard them; ``session`` is its whole id."""
    rows = reader.rows(
        "SELECT source, target, body FROM messages WHERE session_id = ? AND (source = ? OR target = ?) ORDER BY id",
        (session, OUTSIDER, OUTSIDER),
    )
    try:
        read = [(row["source"], reader.json(row["body"])) for row in rows]
        answers = {body["request"]: body for source, body in read if source != OUTSIDER}
        return [_request(body, answers.get(body["request"], {})) for source, body in read if source == OUTSIDER]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"The ledger {reader.path} holds a message of an outsider that is no request ({error}): run log verify."
        ) from error


def _request(asked: dict[str, Any], answer: dict[str, Any]) -> RequestRow:
    return RequestRow(
        id=asked["request"],
        kind=asked["kind"],
        by=asked["by"],
        at=asked["at"],
        asked=asked["candidates" if asked["kind"] == "propose" else "reason"],
        status=answer.get("status", "waiting"),
        answer=answer.get("answer"),
        candidates=tuple(answer.get("candidates", ())),
        round=answer.get("round"),
        refinement=answer.get("refinement"),
        stage=answer.get("stage"),
    )


def sources_of(reader: Query, session: str, round: int | None = None) -> dict[str, str]:
    """Who proposed a candidate of a session or of one round, by its row's id, where that was nobody of the session."""
    found = {}
    where, values = event_filter(session_id=session, round=round)
    for row in reader.rows(f"SELECT id, body FROM proposals e WHERE {where}", values):
        body = reader.json(row["body"])
        candidates = body.get("candidates") if isinstance(body, dict) else None
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, dict) and isinstance(source := candidate.get("source"), str):
                found[f"{row['id']}/{candidate.get('name')}"] = source
    return found

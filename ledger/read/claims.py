"""What agents claimed, and the marks: what in their words the record did not support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.read.query import Query, event_filter


@dataclass(frozen=True)
class ClaimRow:
    """Words of an agent as they were checked."""

    session_id: str
    round: int
    event_seq: int
    """The event of the row that the words are part of."""
    about: str
    """The table of that row: diagnoses, proposals, verdicts, decisions, or events where they have no other row."""
    row_id: str
    agent: str
    words: dict[str, Any]
    """By field; of a diagnosis, all of it."""
    known: dict[str, Any]
    """What they were held against besides rows."""
    marks: list[dict[str, Any]]
    """``field``, ``kind``, ``claim`` and ``problem`` of each; empty where everything is supported."""


def claims(reader: Query, session: str, round: int | None = None) -> list[ClaimRow]:
    """The claims of a session, or of one round, in order; none in a ledger of version 1 to 6, which checked none."""
    if not reader.has_table("claims"):
        return []
    where, values = event_filter(session_id=reader.session_id(session), round=round)
    rows = reader.rows(f"SELECT * FROM claims e WHERE {where} ORDER BY id", values)
    return [_claim(reader, row) for row in rows]


def _claim(reader: Query, row: dict[str, Any]) -> ClaimRow:
    del row["id"]
    return ClaimRow(**row | {name: reader.json(row[name]) for name in ("words", "known", "marks")})

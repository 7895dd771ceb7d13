"""What agents claimed, and the marks: what in their words the record did not support."""

from __future__ import annotations

import json
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
    bodies = reader.bodies(row[name] for row in rows for name in _READ)
    return [_claim(row, bodies) for row in rows]


_READ = ("words", "known", "marks")


def _claim(row: dict[str, Any], bodies: dict[str, str]) -> ClaimRow:
    del row["id"]
    return ClaimRow(**row | {name: json.loads(bodies[row[name]]) for name in _READ})

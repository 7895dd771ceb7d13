"""The answers of another backend, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from learning_signal.agents.whatif.stances import Stance
from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.rows import RowWriter


@dataclass(frozen=True)
class Cost:
    """What the calls of one answer cost, retries included; None where nothing is known."""

    calls: int
    tokens_in: int | None
    tokens_out: int | None
    seconds: float
    usd: float | None


@dataclass(frozen=True)
class Answer:
    """One answer of a backend to a question."""

    spec: str
    session: str
    """Its session in the log of what-ifs."""
    stance: Stance | None
    """None where it came to nothing."""
    agrees: bool | None
    """With what the session was answered; None where it came to nothing."""
    cost: Cost
    stopped: str | None = None
    """Why it came to nothing."""


def cost_of(reader: Reader, session: str, role: str, after: int, before: int | None = None) -> Cost:
    """The cost of the calls of a role in a session behind one event, and up to another where that is given."""
    rows = reader.rows(
        "SELECT tokens_in, tokens_out, latency_ms, cost_usd FROM llm_calls c JOIN events e ON e.seq = c.event_seq "
        "WHERE c.session_id = ?1 AND c.agent = ?2 AND e.seq > ?3 AND (?4 IS NULL OR e.seq < ?4) "
        "AND c.status IN ('ok', 'error') AND e.kind <> 'shadow'",
        (session, role, after, before),
    )
    return Cost(
        calls=len(rows),
        tokens_in=known_sum(row["tokens_in"] for row in rows),
        tokens_out=known_sum(row["tokens_out"] for row in rows),
        seconds=sum(row["latency_ms"] or 0.0 for row in rows) / 1000,
        usd=known_sum(row["cost_usd"] for row in rows),
    )


def last_event(reader: RowWriter | Reader) -> int:
    """The number of the last event of a log, 0 where there is none."""
    (row,) = reader.rows("SELECT coalesce(max(seq), 0) AS seq FROM events")
    return int(row["seq"])

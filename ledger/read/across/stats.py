"""What each agent did in some sessions, by the backend that spoke for it."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.read.across.backends import Speakers
from learning_signal.ledger.read.claims import claims
from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.decision.explain import cited_evidence, troubles_of
from learning_signal.ledger.read.forecasts import Forecast, brier_of, forecasts_of
from learning_signal.ledger.read.reader import Reader


@dataclass(frozen=True)
class AgentStats:
    """One role behind one backend; None is unknown."""

    role: str
    backend: str
    sessions: int
    replies: int
    failed: int
    """Attempts that gave no usable reply."""
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_reasoning: int | None
    cost_usd: float | None
    median_ms: float | None
    p95_ms: float | None
    """95th percentile of the latency of replies, by nearest rank."""
    tool_calls: int
    refused: int
    nudges: int
    """Times that it was told how to go on, since its reply called nothing."""
    given_up: int
    forecasts: int
    """Those that were scored."""
    brier: float | None
    claims: int
    cited: int
    """Pieces of evidence that its claims cite."""
    marks: int
    """Places in its claims that the record does not support."""


@dataclass
class _Found:
    sessions: set[str]
    calls: list[dict[str, Any]]
    tools: list[str]
    forecasts: list[Forecast]
    nudges: int = 0
    given_up: int = 0
    claims: int = 0
    cited: int = 0
    marks: int = 0


def agent_stats(reader: Reader, sessions: Sequence[str]) -> list[AgentStats]:
    """One row for every role and backend that was asked in these sessions, in the order in which they first spoke.

    What an agent does counts for the backend that spoke last for it in the round; shadows are left out.
    """
    found: dict[tuple[str, str], _Found] = defaultdict(lambda: _Found(set(), [], [], []))
    for session in sessions:
        _read(reader, session, found)
    return [_stats(role, backend, each) for (role, backend), each in found.items()]


def _read(reader: Reader, session: str, found: dict[tuple[str, str], _Found]) -> None:
    calls = reader.rows(
        "SELECT c.*, e.round FROM llm_calls c JOIN events e ON e.seq = c.event_seq "
        "WHERE c.session_id = ? AND e.kind <> 'shadow' AND c.status IN ('ok', 'error') ORDER BY c.event_seq",
        (session,),
    )
    for call in calls:
        of = found[call["agent"], call["spec"]]
        of.sessions.add(session)
        of.calls.append(call)
    speakers = Speakers(calls)

    def behind(round_: int | None, role: str | None, event: int) -> _Found | None:
        spec = speakers.before(round_, str(role), event)
        return None if spec is None else found[str(role), spec]

    tools = "SELECT event_seq, round, agent, status FROM tool_calls WHERE session_id = ?"
    for row in reader.rows(tools, (session,)):
        if (speaker := behind(row["round"], row["agent"], row["event_seq"])) is not None:
            speaker.tools.append(row["status"])
    for row in reader.rows(
        "SELECT m.event_seq, m.target, e.round FROM messages m JOIN events e ON e.seq = m.event_seq "
        "WHERE m.session_id = ? AND m.type = 'nudge'",
        (session,),
    ):
        if (speaker := behind(row["round"], row["target"], row["event_seq"])) is not None:
            speaker.nudges += 1
    for event in troubles_of(reader, session):
        if (speaker := behind(event.round, event.agent, event.seq)) is not None:
            speaker.given_up += 1
    for claim in claims(reader, session):
        if (speaker := behind(claim.round, claim.agent, claim.event_seq)) is not None:
            speaker.claims += 1
            speaker.cited += len(cited_evidence(claim.words))
            speaker.marks += len(claim.marks)
    for forecast in forecasts_of(reader, session):
        if (forecast.role, str(forecast.backend)) in found:
            found[forecast.role, str(forecast.backend)].forecasts.append(forecast)


def _stats(role: str, backend: str, found: _Found) -> AgentStats:
    good = [call for call in found.calls if call["status"] == "ok"]
    latencies = sorted(call["latency_ms"] for call in good if call["latency_ms"] is not None)
    scored = [each for each in found.forecasts if each.came_true is not None]
    return AgentStats(
        role=role,
        backend=backend,
        sessions=len(found.sessions),
        replies=len(good),
        failed=len(found.calls) - len(good),
        **{
            name: known_sum(call[name] for call in found.calls)
            for name in ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
        },
        cost_usd=known_sum(call["cost_usd"] for call in found.calls),
        median_ms=statistics.median(latencies) if latencies else None,
        p95_ms=latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else None,
        tool_calls=len(found.tools),
        refused=sum(status in ("refused", "error") for status in found.tools),
        nudges=found.nudges,
        given_up=found.given_up,
        forecasts=len(scored),
        brier=brier_of(scored),
        claims=found.claims,
        cited=found.cited,
        marks=found.marks,
    )

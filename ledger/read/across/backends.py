"""The record of every backend over the sessions of a log: how its agents worked, what they forecast, what they cost."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from learning_signal.ledger.read.costs import known_sum
from learning_signal.ledger.read.decision.explain import troubles_of
from learning_signal.ledger.read.forecasts import Forecast, brier_of, forecasts_of
from learning_signal.ledger.read.reader import Reader


@dataclass(frozen=True)
class BackendRecord:
    """What one backend did, in all roles that it had."""

    backend: str
    """Its spec, as every call of it has it; of a chain the part that answered."""
    roles: tuple[str, ...]
    sessions: int
    phases: int
    """Rounds in which it spoke, counted for each role."""
    given_up: int
    """Times that its agent did not end its phase, or another backend of the chain took over."""
    attempts: int
    """Requests, those that failed included."""
    failed: int
    replies: int
    text_replies: int
    """Replies without a call where one was asked for."""
    written_calls: int
    """Replies whose calls stood in their text, and were understood."""
    tool_calls: int
    refused_calls: int
    scored_forecasts: int
    brier: float | None
    """Of these; None where nothing is scored."""
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    """None where the price of a part is not known."""
    promotions: int
    """Of rounds in which it spoke for any role."""
    tokens_per_promotion: float | None
    usd_per_promotion: float | None
    median_latency_ms: float | None
    """Of replies; None where there are none."""
    shadow_replies: int
    """What it answered beside an agent that another backend spoke for (``--shadow``); in none of the above."""
    shadow_agreed: int
    """Of these, the same calls with the same arguments."""
    shadow_tokens: int | None
    shadow_usd: float | None


@dataclass
class _Found:
    """What is counted of a backend while the sessions are read."""

    roles: dict[str, None] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    phases: set[tuple[str, int, str]] = field(default_factory=set)
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    beside: list[Mapping[str, Any]] = field(default_factory=list)
    """Its calls as a shadow."""
    tool_calls: list[str] = field(default_factory=list)
    given_up: int = 0
    promotions: set[str] = field(default_factory=set)
    forecasts: list[Forecast] = field(default_factory=list)


class Speakers:
    """Which backend spoke last for a role in a round, before an event."""

    def __init__(self, calls: Sequence[Mapping[str, Any]]) -> None:
        self._calls: dict[tuple[int | None, str], tuple[list[int], list[str]]] = {}
        for call in calls:  # in the order of their events
            seqs, specs = self._calls.setdefault((call["round"], call["agent"]), ([], []))
            seqs.append(call["event_seq"])
            specs.append(call["spec"])

    def before(self, round_: int | None, agent: str, seq: int) -> str | None:
        """Its spec; None where none has spoken, as where code looks first."""
        seqs, specs = self._calls.get((round_, agent), ([], []))
        place = bisect.bisect_left(seqs, seq)
        return specs[place - 1] if place else None


def backend_records(reader: Reader, session: str | None = None) -> list[BackendRecord]:
    """One record for every backend that was asked, the one with most attempts first; of one session, or of all."""
    found: dict[str, _Found] = {}
    chosen = [reader.session_id(session)] if session else [each.id for each in reversed(reader.sessions(limit=None))]
    for identity in chosen:
        _read(reader, identity, found)
    return sorted((_record(spec, each) for spec, each in found.items()), key=lambda each: -each.attempts)


def _read(reader: Reader, session: str, found: dict[str, _Found]) -> None:
    calls = reader.rows(
        "SELECT l.event_seq, l.agent, l.spec, l.status, l.latency_ms, l.tokens_in, l.tokens_out, l.cost_usd, "
        "e.round, e.phase, e.kind, e.title, t.body <> '[]' AND json_type(r.body, '$.content') = 'text' is_text, "
        "json_type(r.body, '$.written') IS NOT NULL is_written "
        "FROM llm_calls l JOIN events e ON e.seq = l.event_seq JOIN bodies t ON t.hash = l.tools "
        "LEFT JOIN bodies r ON r.hash = l.reply "
        "WHERE l.session_id = ? AND l.status IN ('ok', 'error') ORDER BY l.event_seq",
        (session,),
    )
    for call in calls:
        if call["kind"] == "shadow":
            found.setdefault(call["spec"], _Found()).beside.append(call)
    calls = [call for call in calls if call["kind"] != "shadow"]
    speakers = Speakers(calls)
    promoted = {each.round: each.id for each in reader.decisions(session) if each.action == "promote"}
    for call in calls:
        each = found.setdefault(call["spec"], _Found())
        each.roles[call["agent"]] = None
        each.sessions.add(session)
        each.calls.append(call)
        if call["round"] is not None and call["phase"] == call["agent"]:  # else it only answered a question
            each.phases.add((session, call["round"], call["agent"]))
        if call["round"] in promoted:
            each.promotions.add(promoted[call["round"]])
    for row in reader.rows(
        "SELECT t.event_seq, t.round, t.agent, t.status FROM tool_calls t "
        "WHERE t.session_id = ? AND t.status IN ('ok', 'refused', 'error')",
        (session,),
    ):
        spec = speakers.before(row["round"], row["agent"], row["event_seq"])
        if spec is not None:
            found[spec].tool_calls.append(row["status"])
    for event in troubles_of(reader, session):
        spec = speakers.before(event.round, event.agent or "", event.seq)
        if spec is not None and event.title.startswith(f"The {event.agent} ("):  # else a backend failed, and it paused
            found[spec].given_up += 1
    for forecast in forecasts_of(reader, session):
        if forecast.backend in found:
            found[forecast.backend].forecasts.append(forecast)


def _record(spec: str, found: _Found) -> BackendRecord:
    ok = [call for call in found.calls if call["status"] == "ok"]
    tokens_in, tokens_out = (known_sum(call[name] for call in found.calls) for name in ("tokens_in", "tokens_out"))
    usd = _usd(found.calls)
    tokens = known_sum((tokens_in, tokens_out))
    promotions = len(found.promotions)
    latencies = [call["latency_ms"] for call in ok if call["latency_ms"] is not None]
    return BackendRecord(
        backend=spec,
        roles=tuple(found.roles),
        sessions=len(found.sessions),
        phases=len(found.phases),
        given_up=found.given_up,
        attempts=len(found.calls),
        failed=len(found.calls) - len(ok),
        replies=len(ok),
        text_replies=sum(bool(call["is_text"]) for call in ok),
        written_calls=sum(bool(call["is_written"]) for call in ok),
        tool_calls=len(found.tool_calls),
        refused_calls=sum(status != "ok" for status in found.tool_calls),
        scored_forecasts=sum(each.came_true is not None for each in found.forecasts),
        brier=brier_of(found.forecasts),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=usd,
        promotions=promotions,
        tokens_per_promotion=tokens / promotions if promotions and tokens is not None else None,
        usd_per_promotion=usd / promotions if promotions and usd is not None else None,
        median_latency_ms=statistics.median(latencies) if latencies else None,
        shadow_replies=sum(call["status"] == "ok" for call in found.beside),
        shadow_agreed=sum(call["status"] == "ok" and call["title"].startswith("agrees") for call in found.beside),
        shadow_tokens=known_sum(call[name] for call in found.beside for name in ("tokens_in", "tokens_out")),
        shadow_usd=_usd(found.beside),
    )


def _usd(calls: Sequence[Mapping[str, Any]]) -> float | None:
    """What they cost, None where the price of a reply is not known."""
    if any(call["status"] == "ok" and call["cost_usd"] is None for call in calls):
        return None
    usd: float | None = known_sum(call["cost_usd"] for call in calls)
    return usd

"""What a session has used: env steps of training and of evaluation, tokens, money and time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.read.query import Query

TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
KINDS = ("main", "branches", "twin", "reused")


@dataclass(frozen=True)
class AgentCosts:
    """Model calls of one role, every attempt counted."""

    llm_calls: int
    failed_calls: int
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    """Of ``tokens_in``, read from a cache, as far as servers say it."""
    tokens_reasoning: int | None
    """Of ``tokens_out``, reasoning, likewise."""
    cost_usd: float | None
    known_usd: float
    """The cost of the calls whose price was known, also where that of others was not."""


@dataclass(frozen=True)
class Costs:
    """What a session has used. A sum of tokens or USD is None where a part is unknown or none was reported.

    "Env steps" alone are those of training; those that evaluations play beside them are counted apart.
    """

    env_steps_main: int
    env_steps_branches: int
    env_steps_twin: int
    env_steps_reused: int
    evaluation_main: int | None
    """Env steps that the evaluations of these segments played, as far as they are known; None where none are."""
    evaluation_branches: int | None
    evaluation_twin: int | None
    evaluation_reused: int | None
    evaluation_unknown: int
    """Segments of these without a count of evaluation: they failed, or an earlier version trained them."""
    cut_off: int | None
    """Env steps trained in segments that a pause, a stop or a failure cut off, which the resume trains again, as far as
    they are known; in none of the above. None where an earlier version did not count them.
    """
    cut_off_unknown: int | None
    """Segments that a kill cut off, or that had not begun: how much they had trained is unknown."""
    agents: dict[str, AgentCosts]
    llm_calls: int
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_reasoning: int | None
    cost_usd: float | None
    wall_seconds: float
    compute_seconds: float
    """Wall seconds of the segments computed here, summed over workers."""


def env_steps(reader: Query, session: str) -> dict[str, int | None]:
    """The env steps trained and evaluated for each purpose, and those an earlier session had computed.

    A segment that failed counts with what was trained before it did, also where a later attempt did not fail.
    """
    rows = reader.rows(
        "WITH used AS (SELECT CASE status WHEN 'ok' THEN env_steps ELSE coalesce(trained, 0) END env_steps, "
        "CASE WHEN status = 'error' AND trained = 0 THEN 0 ELSE evaluation_env_steps END evaluation, "
        "CASE WHEN reused THEN 'reused' "
        "WHEN purpose = 'main' OR id IN (SELECT segment_id FROM main_run WHERE session_id = ?1) THEN 'main' "
        "WHEN purpose = 'twin' THEN 'twin' ELSE 'branches' END kind "
        "FROM segments WHERE session_id = ?1 AND status IN ('ok', 'error')) "
        "SELECT kind, sum(env_steps) trained, sum(evaluation) evaluation, count(*) - count(evaluation) unknown "
        "FROM used GROUP BY kind",
        (session,),
    )
    found = {row["kind"]: row for row in rows}
    nothing = {"trained": 0, "evaluation": None, "unknown": 0}
    counted = {f"env_steps_{kind}": found.get(kind, nothing)["trained"] for kind in KINDS}
    for lost in reader.rows("SELECT lost_main main, lost_twin twin FROM sessions WHERE id = ?", (session,)):
        for kind, value in lost.items():
            counted[f"env_steps_{kind}"] += value
    counted |= {f"evaluation_{kind}": found.get(kind, nothing)["evaluation"] for kind in KINDS}
    return counted | {"evaluation_unknown": sum(row["unknown"] for row in rows)}


def evaluation_of(counted: dict[str, int | None]) -> int | None:
    """Of what ``env_steps`` counted: evaluation of all that this session computed, None where none was counted."""
    played: int | None = known_sum(counted[f"evaluation_{kind}"] for kind in KINDS if kind != "reused")
    return played


def costs(reader: Query, session: str) -> Costs:
    """What a session has used so far."""
    rows = reader.rows(
        "SELECT agent, count(*) llm_calls, count(*) FILTER (WHERE status = 'error') failed_calls, "
        + "".join(f"{token_sum(name)} {name}, " for name in TOKENS)
        + "CASE WHEN count(*) FILTER (WHERE status = 'ok' AND cost_usd IS NULL) = 0 THEN sum(cost_usd) END cost_usd, "
        "total(cost_usd) known_usd "
        "FROM llm_calls WHERE session_id = ? AND status IN ('ok', 'error') GROUP BY agent ORDER BY agent",
        (session,),
    )
    for row in rows:
        row |= {name: whole(row[name]) for name in TOKENS}
    agents = {row.pop("agent"): AgentCosts(**row) for row in rows}
    (time,) = reader.rows(
        "SELECT wall_seconds, (SELECT total(wall_seconds) FROM segments "
        "WHERE session_id = ?1 AND NOT coalesce(reused, 0)) compute_seconds FROM sessions WHERE id = ?1",
        (session,),
    )
    counted: dict[str, Any] = env_steps(reader, session)
    return Costs(
        **counted,
        **_cut_off(reader, session),
        agents=agents,
        llm_calls=sum(each.llm_calls for each in agents.values()),
        **{name: known_sum(getattr(each, name) for each in agents.values()) for name in TOKENS},
        cost_usd=None
        if any(each.cost_usd is None for each in agents.values())
        else known_sum(each.cost_usd for each in agents.values()),
        **time,
    )


def _cut_off(reader: Query, session: str) -> dict[str, Any]:
    """The segments that were cut off; those that a killed process left pending are unknown."""
    (row,) = reader.rows(
        "SELECT cut_off, cut_off_unknown, status, host, pid, heartbeat_at, (SELECT count(*) FROM segments "
        "WHERE session_id = ?1 AND status = 'pending' AND env_steps > 0 AND NOT coalesce(reused, 0)) pending "
        "FROM sessions WHERE id = ?1",
        (session,),
    )
    unknown = row["cut_off_unknown"]
    if unknown is not None and row["status"] == "running":
        unknown += 0 if process_lives(row["host"], row["pid"], row["heartbeat_at"]) else row["pending"]
    return {"cut_off": row["cut_off"], "cut_off_unknown": unknown}


def token_sum(column: str) -> str:
    """SQL for a sum of tokens, as a real number: a server's count may overflow SQLite's integers."""
    return f"sum(CAST({column} AS REAL))"


def whole(value: float | None) -> int | None:
    """A sum of whole numbers as one, None for none."""
    return None if value is None else int(value)


def known_sum(values: Iterable[float | None]) -> Any:
    """The sum of what is known, None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None

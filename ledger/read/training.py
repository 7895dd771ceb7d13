"""What a session trained: its segments, HEAD's way through them, evaluations, metrics, costs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import AgentCosts, Costs, EvaluationRow, MainRunRow, SegmentRow


def env_steps(reader: Query, session: str) -> dict[str, int]:
    """The env steps computed for each purpose, and those an earlier session had computed.

    A segment that failed counts with what was trained before it did, also where a later attempt did not fail.
    """
    (row,) = reader.rows(
        "WITH used AS (SELECT CASE status WHEN 'ok' THEN env_steps ELSE coalesce(trained, 0) END env_steps, "
        "coalesce(reused, 0) reused, CASE "
        "WHEN id IN (SELECT segment_id FROM main_run WHERE session_id = ?1) THEN 'main' "
        "WHEN purpose = 'twin' THEN 'twin' ELSE 'branches' END counted_for "
        "FROM segments WHERE session_id = ?1 AND status IN ('ok', 'error')) "
        "SELECT total(env_steps) FILTER (WHERE NOT reused AND counted_for = 'main') main, "
        "total(env_steps) FILTER (WHERE NOT reused AND counted_for = 'branches') branches, "
        "total(env_steps) FILTER (WHERE NOT reused AND counted_for = 'twin') twin, "
        "total(env_steps) FILTER (WHERE reused) reused FROM used",
        (session,),
    )
    for lost in reader.rows("SELECT lost_main main, lost_twin twin FROM sessions WHERE id = ?", (session,)):
        row |= {name: row[name] + value for name, value in lost.items()}
    return {f"env_steps_{name}": int(value) for name, value in row.items()}


def segments(reader: Query, session: str) -> dict[str, SegmentRow]:
    """The segments a session used, by id, in the order they were started."""
    rows = reader.rows(
        "SELECT s.*, b.body shaping_body FROM segments s JOIN bodies b ON b.hash = s.shaping "
        "WHERE session_id = ? ORDER BY s.rowid",
        (session,),
    )
    return {row["id"]: _segment(row) for row in rows}


def main_run(reader: Query, session: str) -> list[MainRunRow]:
    """The moves of HEAD in order."""
    used = segments(reader, session)
    rows = reader.rows("SELECT * FROM main_run WHERE session_id = ? ORDER BY id", (session,))
    return [MainRunRow(used[row["segment_id"]], row["round"], row["reason"], row["at"]) for row in rows]


def lineage(reader: Query, session: str) -> list[SegmentRow]:
    """The segments HEAD rests on, oldest first."""
    moves, used = main_run(reader, session), segments(reader, session)
    line: list[SegmentRow] = []
    current = moves[-1].segment if moves else None
    while current is not None:
        line.append(current)
        current = None if current.parent is None else used.get(current.parent)
    return line[::-1]


def evaluations(reader: Query, session: str, segment: str | None, episode_set: str | None) -> list[EvaluationRow]:
    """Evaluations, in order of segment and env steps; None for a filter leaves it out."""
    rows = reader.rows(
        "SELECT v.*, b.body FROM evaluations v JOIN bodies b ON b.hash = v.detail WHERE session_id = ?1 "
        "AND (?2 IS NULL OR segment_id = ?2) AND (?3 IS NULL OR episode_set = ?3) "
        "ORDER BY segment_id, episode_set, env_steps",
        (session, segment, episode_set),
    )
    names = ("id", "segment_id", "episode_set", "env_steps", "episodes", "sparse_return", "progress", "points")
    found = []
    for row in rows:
        detail = json.loads(row["body"])
        found.append(
            EvaluationRow(
                **{name: row[name] for name in names},
                sparse_returns=detail["sparse_returns"],
                progresses=detail["progress"],
            )
        )
    return found


def costs(reader: Query, session: str) -> Costs:
    """What a session has used so far."""
    rows = reader.rows(
        "SELECT agent, count(*) llm_calls, count(*) FILTER (WHERE status = 'error') failed_calls, "
        f"{token_sum('tokens_in')} tokens_in, {token_sum('tokens_out')} tokens_out, "
        "CASE WHEN count(*) FILTER (WHERE status = 'ok' AND cost_usd IS NULL) = 0 THEN sum(cost_usd) END cost_usd, "
        "total(cost_usd) known_usd "
        "FROM llm_calls WHERE session_id = ? AND status IN ('ok', 'error') GROUP BY agent ORDER BY agent",
        (session,),
    )
    for row in rows:
        row |= {name: whole(row[name]) for name in ("tokens_in", "tokens_out")}
    agents = {row.pop("agent"): AgentCosts(**row) for row in rows}
    (time,) = reader.rows(
        "SELECT wall_seconds, (SELECT total(wall_seconds) FROM segments "
        "WHERE session_id = ?1 AND NOT coalesce(reused, 0)) compute_seconds FROM sessions WHERE id = ?1",
        (session,),
    )
    return Costs(
        **env_steps(reader, session),
        agents=agents,
        llm_calls=sum(each.llm_calls for each in agents.values()),
        tokens_in=_known_sum(each.tokens_in for each in agents.values()),
        tokens_out=_known_sum(each.tokens_out for each in agents.values()),
        cost_usd=None
        if any(each.cost_usd is None for each in agents.values())
        else _known_sum(each.cost_usd for each in agents.values()),
        **time,
    )


def token_sum(column: str) -> str:
    """SQL for a sum of tokens, as a real number: what a server once said may be too much for SQLite's whole ones."""
    return f"sum(CAST({column} AS REAL))"


def whole(value: float | None) -> int | None:
    """A sum of whole numbers as one, None for none."""
    return None if value is None else int(value)


def _segment(row: dict[str, Any]) -> SegmentRow:
    row["shaping"] = json.loads(row["shaping_body"])
    row["reused"] = None if row["reused"] is None else bool(row["reused"])
    return SegmentRow(**{field.name: row[field.name] for field in fields(SegmentRow)})


def _known_sum(values: Iterable[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

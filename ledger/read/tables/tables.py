"""A log as tables: lists of plain dicts, which data frames and CSV writers take as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionRow, SessionRow
from learning_signal.ledger.read.tables.columns import WHOSE, columns
from learning_signal.ledger.read.tables.curve import session_curve
from learning_signal.ledger.wording import shaping_text

Row = dict[str, Any]


def table(reader: Reader, name: str, session: str | None = None) -> list[Row]:
    """The rows of a table: of one session, or of all of the log, the oldest first.

    Every row has the columns of the table, as ``columns`` gives them, and None where a value is missing.

    Raises:
        LedgerError: there is no such table, or no such session.
    """
    columns(name)
    chosen = reader.sessions(limit=None)[::-1] if session is None else [reader.session(session)]
    rows = []
    for row in chosen:
        whose = {"session": row.id, "task": row.task, "algorithm": row.algorithm, "seed": row.seed}
        rows += [whose | own for own in _ROWS[name](reader, row)]
    return rows


def _sessions(reader: Reader, row: SessionRow) -> Iterator[Row]:
    more = {"gate": row.gate_mode, "cost_usd": reader.costs(row.id).cost_usd}
    yield {
        name: more[name] if name in more else getattr(row, name) for name in columns("sessions") if name not in WHOSE
    }


def _events(reader: Reader, row: SessionRow) -> Iterator[Row]:
    yield from reader.rows(
        "SELECT e.seq event, e.round, e.phase, e.agent, e.kind, e.status, e.title, e.started_at, e.ended_at, "
        "t.name tool, t.evidence_id evidence, c.spec backend, coalesce(c.model_served, c.model_requested) model, "
        "coalesce(c.latency_ms, t.latency_ms) latency_ms, c.tokens_in, c.tokens_out, c.cost_usd "
        "FROM events e LEFT JOIN tool_calls t ON e.ref_table = 'tool_calls' AND t.id = e.ref_id "
        "LEFT JOIN llm_calls c ON e.ref_table = 'llm_calls' AND c.id = e.ref_id "
        "WHERE e.session_id = ? ORDER BY e.seq",
        (row.id,),
    )


def _decisions(reader: Reader, row: SessionRow) -> Iterator[Row]:
    verdicts = {each.id: each for each in reader.verdicts(row.id)}
    comparisons = {each.id: each for each in reader.comparisons(row.id)}
    times = {
        each["seq"]: each["started_at"]
        for each in reader.rows(
            "SELECT seq, started_at FROM events WHERE session_id = ? AND kind = 'decision'", (row.id,)
        )
    }
    for decision in reader.decisions(row.id):
        verdict = verdicts.get(decision.verdict_id or "")
        rests_on = decision.comparison_id or (verdict and verdict.comparison_id) or ""
        yield {
            "round": decision.round,
            "event": decision.event_seq,
            "at": times.get(decision.event_seq),
            "action": decision.action,
            "candidate": decision.candidate_id,
            "decided_by": decision.decided_by,
            "reason": decision.reason,
            "verdict": verdict and verdict.outcome,
            **_statistics(comparisons.get(rests_on)),
            **_moved(decision),
        }


def _statistics(comparison: ComparisonRow | None) -> Row:
    """What was computed: of a confirmation, or of the probation that a roll back rests on."""
    result = {} if comparison is None else comparison.result
    low, high = result.get("interval") or (None, None)
    dropped = result.get("mean_drop")
    difference = result.get("mean_difference") if dropped is None else -dropped
    numbers = {
        "difference": difference,
        "low": low,
        "high": high,
        "p": result.get("p"),
        "level": result.get("level", result.get("alpha")),
    }
    return {
        "measure": result.get("measure") or result.get("rule"),
        **{name: None if value is None else float(value) for name, value in numbers.items()},
    }


def _moved(decision: DecisionRow) -> Row:
    return {
        "shaping_before": shaping_text(decision.shaping_from),
        "shaping_after": shaping_text(decision.shaping_to),
        "segment_before": decision.segment_from,
        "segment_after": decision.segment_to,
    }


def _evaluations(reader: Reader, row: SessionRow) -> Iterator[Row]:
    used, head = reader.segments(row.id), {each.id for each in reader.lineage(row.id)}
    for each in reader.evaluations(row.id):
        yield {
            "segment": each.segment_id,
            "purpose": used[each.segment_id].purpose,
            "head": each.segment_id in head,
            "episode_set": each.episode_set,
            "env_steps": each.env_steps,
            "episodes": each.episodes,
            "sparse_return": each.sparse_return,
            "progress": each.progress,
        }


def _segments(reader: Reader, row: SessionRow) -> Iterator[Row]:
    for each in reader.segments(row.id).values():
        yield {
            "segment": each.id,
            "parent": each.parent,
            "purpose": each.purpose,
            "status": each.status,
            "reason": each.reason,
            "reused": each.reused,
            "segment_seed": each.seed,
            "shaping": shaping_text(each.shaping),
            "env_steps": each.env_steps,
            "begin": each.start_env_steps,
            "end": each.end_env_steps,
            "evaluation_env_steps": each.evaluation_env_steps,
            "wall_seconds": each.wall_seconds,
            "started_at": each.started_at,
            "ended_at": each.ended_at,
        }


def _curves(reader: Reader, row: SessionRow) -> Iterator[Row]:
    for measure in ("sparse_return", "progress"):
        curve = session_curve(reader, row.id, measure)
        for total, value in curve.points:
            yield {
                "measure": measure,
                "episode_set": curve.episode_set,
                "total_env_steps": round(total),
                "value": value,
            }


_ROWS: dict[str, Callable[[Reader, SessionRow], Iterator[Row]]] = {
    "sessions": _sessions,
    "events": _events,
    "decisions": _decisions,
    "evaluations": _evaluations,
    "segments": _segments,
    "curves": _curves,
}

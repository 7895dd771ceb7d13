"""What a session trained: its segments, HEAD's way through them, evaluations."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from learning_signal.ledger.packing import unpacked_json
from learning_signal.ledger.read.query import Query
from learning_signal.ledger.read.records import EvaluationRow, MainRunRow, SegmentRow


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
        "SELECT * FROM evaluations WHERE session_id = ?1 "
        "AND (?2 IS NULL OR segment_id = ?2) AND (?3 IS NULL OR episode_set = ?3) "
        "ORDER BY segment_id, episode_set, env_steps",
        (session, segment, episode_set),
    )
    names = ("id", "segment_id", "episode_set", "env_steps", "episodes", "sparse_return", "progress", "points")
    found = []
    for row in rows:
        detail = unpacked_json(row)
        found.append(
            EvaluationRow(
                **{name: row[name] for name in names},
                sparse_returns=detail["sparse_returns"],
                progresses=detail["progress"],
            )
        )
    return found


def _segment(row: dict[str, Any]) -> SegmentRow:
    row["shaping"] = json.loads(row["shaping_body"])
    row["reused"] = None if row["reused"] is None else bool(row["reused"])
    return SegmentRow(**{field.name: row[field.name] for field in fields(SegmentRow)})

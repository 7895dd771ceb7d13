"""What a session trained: its segments, HEAD's way through them, evaluations."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from learning_signal.ledger.packing import unpacked_json
from learning_signal.ledger.read.query import Query


@dataclass(frozen=True)
class SegmentRow:
    """A piece of training."""

    id: str
    parent: str | None
    shaping: dict[str, Any]
    seed: int
    env_steps: int
    start_env_steps: int | None
    end_env_steps: int | None
    purpose: str | None
    """What it was first trained for: main, screen, confirm or twin; None where the session did not say."""
    status: str
    reason: str | None
    reused: bool | None
    wall_seconds: float | None
    trained: int | None
    """Env steps trained before it failed; None where it did not fail, or where that is not known."""
    evaluation_env_steps: int | None
    """Env steps that its evaluations played; None where it has no result, or where that is not known."""
    started_at: str
    ended_at: str | None
    checkpoint: str | None
    """SHA-256 of the file; None where it has none, or where an earlier version wrote the row."""
    policy: str | None
    """Hash of the weights (``marl.learners.weights``); None as above."""

    @property
    def cost(self) -> int:
        """The env steps it has cost: all when it is done, those before it failed, none while it runs."""
        if self.status == "ok":
            return self.env_steps
        return self.trained or 0 if self.status == "error" else 0


@dataclass(frozen=True)
class MainRunRow:
    """One move of HEAD."""

    segment: SegmentRow
    round: int | None
    reason: str
    at: str


@dataclass(frozen=True)
class EvaluationRow:
    """One unshaped evaluation of a segment on one set of episodes."""

    id: int
    segment_id: str
    episode_set: str
    env_steps: int
    """Position on the segment's lineage."""
    episodes: int
    sparse_return: float
    progress: float | None
    sparse_returns: list[float]
    progresses: list[float] | None
    """Both per episode; None where the task declares no progress."""
    points: int | None
    """Points of its segment, whichever its set was played at; None in earlier versions, which played it at each."""


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

"""What a session trained: its segments, HEAD's way through them, evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from learning_signal.ledger.packing import unpacked_json
from learning_signal.ledger.read.query import Query, event_filter


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


def segments(reader: Query, session: str, ids: Iterable[str] | None = None) -> dict[str, SegmentRow]:
    """The segments a session used, or these of them, by id, in the order they were started."""
    these = "" if ids is None else " AND s.id IN (SELECT value FROM json_each(?))"
    rows = reader.rows(
        "SELECT s.*, b.body shaping_body FROM segments s JOIN bodies b ON b.hash = s.shaping "
        f"WHERE session_id = ?{these} ORDER BY s.rowid",
        (session,) if ids is None else (session, json.dumps([*ids])),
    )
    shapings = {row["shaping"]: row["shaping_body"] for row in rows}
    shapings = {address: json.loads(body) for address, body in shapings.items()}
    return {row["id"]: _segment(row, shapings[row["shaping"]]) for row in rows}


def main_run(reader: Query, session: str) -> list[MainRunRow]:
    """The moves of HEAD in order."""
    rows = reader.rows("SELECT * FROM main_run WHERE session_id = ? ORDER BY id", (session,))
    used = segments(reader, session, dict.fromkeys(row["segment_id"] for row in rows))
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
    where, values = event_filter(session_id=session, segment_id=segment, episode_set=episode_set)
    rows = reader.rows(f"SELECT * FROM evaluations e WHERE {where} ORDER BY segment_id, episode_set, env_steps", values)
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


def _segment(row: dict[str, Any], shaping: dict[str, Any]) -> SegmentRow:
    row = row | {"shaping": shaping, "reused": None if row["reused"] is None else bool(row["reused"])}
    return SegmentRow(**{name: row[name] for name in _OF_SEGMENT})


_OF_SEGMENT = tuple(field.name for field in fields(SegmentRow))

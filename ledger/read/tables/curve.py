"""Where HEAD stood after every env step that a session trained, branches included, and what was decided there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import SessionRow
from learning_signal.ledger.read.training import MainRunRow, SegmentRow


@dataclass(frozen=True)
class Decision:
    """A round as the picture shows it: the training of its branches, then what was decided."""

    round: int
    action: str
    subject: str
    """The promoted candidate and its verdict, or the verdict that kept the shaping; empty where there is none."""
    begin: float
    """Total env steps when the round began."""
    end: float
    """Total env steps when it was decided."""


@dataclass(frozen=True)
class SessionCurve:
    """The curve of one session; ``points`` are (total env steps, value of the measure), in order."""

    title: str
    points: tuple[tuple[float, float], ...]
    stages: tuple[tuple[float, float], ...]
    """Where a stage of the main run ended."""
    decisions: tuple[Decision, ...]
    total_env_steps: int
    episode_set: str = "report"
    """What it is measured on; confirm in a training run, and where an earlier version trained a part of it."""
    measure: str = "sparse_return"


def session_curve(reader: Reader, session: str | SessionRow, measure: str = "sparse_return") -> SessionCurve:
    """The curve of HEAD on the report episodes, without the sparse twin, in ``sparse_return`` or ``progress``.

    The segment of a promoted candidate is drawn at the end of its round, when HEAD moved to it. ``session`` is an id,
    or the session's row where that was read already.
    """
    row = reader.session(session) if isinstance(session, str) else session
    moves, used = reader.main_run(row.id), reader.segments(row.id)
    spent = _Spent(segment for segment in used.values() if segment.purpose != "twin")
    episode_set = _measured_on(reader, row.id, moves)
    points: list[tuple[float, float]] = []
    stages, reached = [], 0.0
    for move in moves:
        total = spent.by(move.at)
        own = _own(reader, row.id, move, episode_set, measure, reached, total)
        if points and move.reason != "roll_back":  # while branches are trained, HEAD stays where it is
            points.append((max(reached, total - move.segment.env_steps), points[-1][1]))
        points += own
        if move.reason == "stage" and own:
            stages.append(own[-1])
        reached = total
    decisions = tuple(_decisions(reader, spent, moves, row.id))
    last = max([reached, *(each.end for each in decisions)])
    if points and last > points[-1][0]:
        points.append((last, points[-1][1]))
    title = f"{row.task}, {row.algorithm}, seed {row.seed}: session {row.id}"
    return SessionCurve(title, tuple(points), tuple(stages), decisions, int(last), episode_set, measure)


def _measured_on(reader: Reader, session: str, moves: Iterable[MainRunRow]) -> str:
    """One set for the whole curve: report where every segment of HEAD played it, otherwise confirm."""
    rows = reader.rows(
        "SELECT DISTINCT segment_id FROM evaluations WHERE session_id = ? AND episode_set = 'report'", (session,)
    )
    reported = {row["segment_id"] for row in rows}
    return "report" if all(move.segment.id in reported for move in moves) else "confirm"


class _Spent:
    """The env steps that had been trained by any time."""

    def __init__(self, segments: Iterable[SegmentRow]) -> None:
        ended = sorted((each.ended_at, each.cost) for each in segments if each.ended_at is not None)
        self._times = [at for at, _ in ended]
        self._sums = [0, *accumulate(cost for _, cost in ended)]

    def by(self, at: str) -> float:
        """Those of all segments that had ended by ``at``."""
        return float(self._sums[bisect_right(self._times, at)])


def _own(
    reader: Reader, session: str, move: MainRunRow, episode_set: str, measure: str, reached: float, total: float
) -> list[tuple[float, float]]:
    """The evaluations of the segment that HEAD moved to, which end at ``total``; a roll back has its last one alone."""
    segment = move.segment
    played = reader.rows(
        f"SELECT env_steps, {measure} value FROM evaluations "
        f"WHERE session_id = ? AND segment_id = ? AND episode_set = ? AND {measure} IS NOT NULL ORDER BY env_steps",
        (session, segment.id, episode_set),
    )
    found = [(row["env_steps"], row["value"]) for row in played]
    if move.reason == "roll_back":
        return [(total, found[-1][1])] if found else []
    end = segment.end_env_steps or 0
    return [(max(reached, total - (end - env_steps)), value) for env_steps, value in found]


def _decisions(reader: Reader, spent: _Spent, moves: list[MainRunRow], session: str) -> Iterator[Decision]:
    made = reader.decisions(session)
    taken = {
        row["seq"]: row["started_at"] for row in reader.rows_with("events", "seq", (each.event_seq for each in made))
    }
    verdicts = {verdict.id: verdict for verdict in reader.verdicts(session)}
    for decision in made:
        at = taken[decision.event_seq]
        before = (move.at for move in reversed(moves) if move.at < at and move.round != decision.round)
        verdict = verdicts.get(decision.verdict_id or "")
        subject = "" if verdict is None else verdict.outcome
        if decision.action == "promote" and verdict is not None:
            name = (decision.candidate_id or "").rpartition("/")[2].rpartition(".")[2]
            subject = f"{name}: {verdict.outcome} on {(verdict.measure or '').replace('_', ' ')}"
        begun = next(before, None)
        begin = 0.0 if begun is None else spent.by(begun)
        yield Decision(decision.round, decision.action, subject, begin, spent.by(at))

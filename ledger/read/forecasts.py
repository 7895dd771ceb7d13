"""Forecasts against what was measured: which came true, and the record of each agent and backend.

A forecast is the probability that a candidate's difference to the control, in the measure that it names, is above 0.
The candidate's confirmation says whether it is; where there is none, the last screen that compared the candidate.
Everything is derived from rows, so nothing of it is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.read.outside import sources_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, speaker
from learning_signal.ledger.wording import OUTSIDER

BINS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
"""The ranges of probability in which calibration is told; the upper end belongs to the next."""
UNINFORMED = 0.25
"""The Brier score of always saying 0.5."""
CONTROL = "control"


@dataclass(frozen=True)
class Forecast:
    """The forecast of a candidate, and what was measured."""

    session: str
    round: int
    candidate: str
    role: str
    """Whose forecast it is."""
    backend: str | None
    """What answered for the role then, or who it is outside of the session; None where the ledger does not say."""
    measure: str
    change: float
    probability: float
    """That the difference is above 0."""
    difference: float | None
    """Candidate minus control in this measure; None where they were not compared in it."""
    measured_by: str | None
    """confirm or screen; None where there is no difference."""

    @property
    def came_true(self) -> bool | None:
        """Whether the difference is above 0; None where there is none, and nothing to score."""
        return None if self.difference is None else self.difference > 0


@dataclass(frozen=True)
class Bin:
    """The forecasts with a probability in one range."""

    low: float
    high: float
    n: int
    mean_probability: float
    share_true: float


@dataclass(frozen=True)
class ForecastRecord:
    """How well an agent on a backend has forecast."""

    role: str
    backend: str | None
    n: int
    """Forecasts that are scored."""
    unscored: int
    """Those whose candidates were not compared."""
    brier: float | None
    """Mean squared difference of probability and outcome (1 or 0; Brier 1950); None where nothing is scored."""
    calibration: tuple[Bin, ...]
    """At most three, without those that are empty."""


def records_of(forecasts: Sequence[Forecast]) -> list[ForecastRecord]:
    """One record for every role and backend, in the order in which they first spoke."""
    groups: dict[tuple[str, str | None], list[Forecast]] = {}
    for each in forecasts:
        groups.setdefault((each.role, each.backend), []).append(each)
    return [_record(role, backend, mine) for (role, backend), mine in groups.items()]


def _record(role: str, backend: str | None, forecasts: Sequence[Forecast]) -> ForecastRecord:
    scored = [(each.probability, float(each.difference > 0)) for each in forecasts if each.difference is not None]
    bins = []
    for low, high in BINS:
        inside = [pair for pair in scored if low <= pair[0] < high or pair[0] == high == 1.0]
        if inside:
            means = (math.fsum(values) / len(inside) for values in zip(*inside, strict=True))
            bins.append(Bin(low, high, len(inside), *means))
    unscored = len(forecasts) - len(scored)
    return ForecastRecord(role, backend, len(scored), unscored, brier_of(forecasts), tuple(bins))


def brier_of(forecasts: Sequence[Forecast]) -> float | None:
    """The mean squared difference of probability and outcome, of the forecasts that are scored; None without any."""
    scored = [each for each in forecasts if each.came_true is not None]
    squares = [(each.probability - float(each.came_true or False)) ** 2 for each in scored]
    return math.fsum(squares) / len(squares) if squares else None


def forecasts_of(reader: Reader, session: str) -> list[Forecast]:
    """Every forecast of a session, in the order of the proposals."""
    identity, comparisons = reader.session_id(session), reader.comparisons(session)
    sources = sources_of(reader, identity)
    rows = reader.rows(
        "SELECT c.id, c.name, c.forecast_metric, c.forecast_change, c.forecast_probability, p.round, p.refinement, "
        "e.agent role, (SELECT spec FROM agents a WHERE a.session_id = c.session_id AND a.role = e.agent "
        "AND a.since <= e.started_at ORDER BY a.since DESC, a.rowid DESC LIMIT 1) backend "
        "FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "JOIN (SELECT seq, started_at, coalesce(agent, 'generator') agent FROM events) e ON e.seq = p.event_seq "
        "WHERE c.session_id = ? ORDER BY p.event_seq, c.rowid",
        (identity,),
    )
    return [
        Forecast(
            identity,
            row["round"],
            row["name"],
            OUTSIDER if row["id"] in sources else row["role"],
            sources.get(row["id"]) or (row["backend"] and speaker(row["backend"])),
            row["forecast_metric"],
            row["forecast_change"],
            row["forecast_probability"],
            *measured(comparisons, row["id"], (row["round"], row["refinement"]), row["forecast_metric"]),
        )
        for row in rows
    ]


def measured(
    comparisons: Sequence[ComparisonRow], candidate: str, place: tuple[int, int], measure: str
) -> tuple[float | None, str | None]:
    """The difference of a candidate (its id) in ``measure``, and the purpose of the comparison that it is of.

    ``place`` is the round and the refinement that proposed it. Its last confirmation that has both arms' values counts,
    else the last screen.
    """
    name = candidate.rpartition("/")[2]
    for purpose in ("confirm", "screen"):
        for each in reversed(comparisons):
            if each.purpose != purpose or (each.round, each.refinement) != place:
                continue
            if purpose == "confirm" and each.candidate_id != candidate:
                continue
            difference = _difference(each.inputs.get("arms") or {}, name, measure)
            if difference is not None:
                return difference, purpose
    return None, None


def _difference(arms: dict[str, Any], name: str, measure: str) -> float | None:
    """Mean over the branches of the candidate minus that of the control, of those pairs that the control finished.

    None where there is no such pair, or the candidate lacks a value in one: then it was not compared.
    """
    theirs, ours = ([seed.get(measure) for seed in arms.get(arm) or ()] for arm in (CONTROL, name))
    if len(theirs) != len(ours):
        return None
    pairs = [(control, value) for control, value in zip(theirs, ours, strict=True) if control is not None]
    if not pairs or any(value is None for _, value in pairs):
        return None
    return math.fsum(value - control for control, value in pairs) / len(pairs)

"""The curves of several sessions of one task, those that differ in their seed alone taken together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.canonical import canonical_json
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.across.compare import NOT_COMPARED
from learning_signal.ledger.read.across.order import median_interval
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import SessionRow
from learning_signal.ledger.read.tables.curve import SessionCurve, session_curve

POINTS = 200
"""Places at which the median of several curves is taken."""


@dataclass(frozen=True)
class BandPoint:
    """The median of the curves of several seeds after ``total_env_steps``, and its interval."""

    total_env_steps: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedCurves:
    """Sessions of one configuration, which differ in their seed."""

    label: str
    seeds: tuple[int, ...]
    curves: tuple[SessionCurve, ...]
    """One per seed."""
    band: tuple[BandPoint, ...]
    """As far as every one of them goes; empty where there are fewer than two."""
    level: float | None
    """The probability with which the interval holds the median of all seeds; None where there is no band."""


@dataclass(frozen=True)
class TaskCurves:
    """Several sessions of one task."""

    task: str
    measure: str
    episode_set: str
    groups: tuple[SeedCurves, ...]


def curves_of(reader: Reader, sessions: Sequence[str], measure: str = "sparse_return") -> TaskCurves:
    """The curves of these sessions over total env steps of training, grouped by configuration.

    Raises:
        LedgerError: they are of different tasks or measured on different episodes, one has no curve, or two have the
            same configuration and the same seed, so that they are no two samples.
    """
    rows = [reader.session(each) for each in sessions]
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) > 1:
        raise LedgerError(f"Found sessions of {len(tasks)} tasks ({', '.join(tasks)}), expected one: plot each apart.")
    curves = [session_curve(reader, row.id, measure) for row in rows]
    for row, curve in zip(rows, curves, strict=True):
        if not curve.points:
            raise LedgerError(f"Session {row.id} has no {measure.replace('_', ' ')} yet: leave it out.")
    sets = {curve.episode_set for curve in curves}
    if len(sets) > 1:
        raise LedgerError(
            f"Found sessions measured on different episodes ({', '.join(sorted(sets))}), expected one set: plot them "
            "apart."
        )
    grouped: dict[str, list[tuple[SessionRow, SessionCurve]]] = {}
    for row, curve in zip(rows, curves, strict=True):
        grouped.setdefault(canonical_json(_decisive(reader.config(row.id))), []).append((row, curve))
    groups, labels = [], [_label(reader, pairs[0][0]) for pairs in grouped.values()]
    for label, pairs in zip(labels, grouped.values(), strict=True):
        name = label if labels.count(label) == 1 else f"{label} ({pairs[0][0].id})"
        groups.append(_together(name, pairs))
    return TaskCurves(tasks[0], measure, sets.pop(), tuple(groups))


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that make two sessions different but for their seed."""
    left_out = (NOT_COMPARED - {"agents"}) | {"seed"}
    return {name: value for name, value in config.items() if name not in left_out}


def _label(reader: Reader, row: SessionRow) -> str:
    """Its algorithm and who the agents were."""
    specs = {agent.role: agent.spec for agent in reader.agents(row.id)}
    if not specs:
        return f"{row.algorithm}, without agents"
    if len(set(specs.values())) == 1:
        return f"{row.algorithm}, {next(iter(specs.values()))}"
    return f"{row.algorithm}, {', '.join(f'{role} {spec}' for role, spec in specs.items())}"


def _together(label: str, pairs: Sequence[tuple[SessionRow, SessionCurve]]) -> SeedCurves:
    by_seed: dict[int, SessionRow] = {}
    for row, _ in pairs:
        if (other := by_seed.setdefault(row.seed, row)) is not row:
            raise LedgerError(
                f"Sessions {other.id} and {row.id} have the same configuration and seed {row.seed}, expected different "
                "seeds: leave one out."
            )
    curves = tuple(curve for _, curve in pairs)
    if len(curves) < 2:
        return SeedCurves(label, tuple(by_seed), curves, (), None)
    first = max(curve.points[0][0] for curve in curves)
    last = min(curve.points[-1][0] for curve in curves)
    places = [first + (last - first) * number / (POINTS - 1) for number in range(POINTS)] if first < last else []
    band, level = [], None
    for place in places:
        values = [_at(curve, place) for curve in curves]
        low, high, level = median_interval(values)
        band.append(BandPoint(place, statistics.median(values), low, high))
    return SeedCurves(label, tuple(by_seed), curves, tuple(band), level)


def _at(curve: SessionCurve, total_env_steps: float) -> float:
    """The value between the two evaluations around ``total_env_steps``, on the straight line that is drawn."""
    before, value = curve.points[0]
    for steps, later in curve.points:
        if steps >= total_env_steps:
            share = 1.0 if steps == before else (total_env_steps - before) / (steps - before)
            return value + share * (later - value)
        before, value = steps, later
    return value

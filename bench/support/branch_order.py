"""How well the order of shapings after a short branch predicts the one after a long one: the table, from the runs.

The method is described in ``bench.branch_length``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, rankdata

from bench.support.cases import CASES, COVERAGE, FORAGING, SPARSE, TO_A_FOOD, Case, Parent, shaping
from learning_signal.marl.gate.measure import Measure, later_half_mean
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.shaping import ShapingConfig

SHORT, LONG = (0.25, 0.5, 1.0, 2.0), (4.0, 10.0)
"""Lengths of a branch in units: those to choose from, and those to be predicted."""
PIECES = (0.25, 0.25, 0.5, *[1.0] * 9)
"""Segments of a run in units: their four evaluations are those that a branch of each length needs."""
RESAMPLES = 2000
LEAST_RHO = 0.7
"""A length that predicts less is not recommended, however noisy the others are."""
CANDIDATES = 3
"""Of a decision's screen."""


@dataclass(frozen=True)
class Field:
    """The parents and shapings that are compared on a task."""

    case: Case
    unit: int
    """Env steps."""
    parents: tuple[Parent, ...]
    shapings: Mapping[str, ShapingConfig]
    pieces: tuple[float, ...] = PIECES

    @property
    def steps(self) -> list[int]:
        """Env steps of every segment of a run, whole rollouts."""
        return [round_up(self.case.run, int(piece * self.unit)) for piece in self.pieces]


def _field(task: str, unit: int, shapings: Mapping[str, ShapingConfig]) -> Field:
    case = CASES[task]
    return Field(case, unit, (case.parents[0], case.parents[case.offered]), shapings)


FIELDS = {
    "spread": _field(
        "spread",
        128_000,
        {
            "none": SPARSE,
            "coverage": COVERAGE,
            "coverage, away": shaping(("coverage_distance", 1.0)),
            "coverage, weak": shaping(("coverage_distance", -0.2)),
            "coverage, strong": shaping(("coverage_distance", -5.0)),
            "worst landmark": shaping(("worst_coverage_distance", -1.0)),
            "nearest landmark": shaping(("nearest_landmark_distance", -1.0), scope="agent"),
            "near the centre": shaping(("distance_to_centre", -1.0), scope="agent"),
        },
    ),
    FORAGING: _field(
        FORAGING,
        25_600,
        {
            "none": SPARSE,
            "to a food": TO_A_FOOD,
            "from it": shaping(("team_distance", 0.1)),
            "to a food, weak": shaping(("team_distance", -0.02)),
            "to a food, strong": shaping(("team_distance", -0.5)),
            "enough at a food": shaping(("lifting_distance", -0.1)),
            "each to the nearest": shaping(("nearest_food_distance", -0.1), scope="agent"),
            "together": shaping(("spacing", -0.1)),
        },
    ),
}


@dataclass(frozen=True)
class Run:
    """One shaping and seed from one parent."""

    evaluations: tuple[Evaluation, ...]
    """On the gate's confirmation set, oldest first."""
    start: int
    env_steps: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """One length of a branch."""

    branch_steps: int
    judged_on: str
    rho: tuple[float, ...]
    """At each of ``LONG``."""
    interval: tuple[tuple[float, float], ...]
    tau: float
    same_side: float
    env_steps: int
    """Of a decision, at most."""
    seconds: float
    """Of workers, for as long a decision."""
    recommended: bool


def branch_measure(run: Run, branch_steps: int) -> Measure:
    """The score that a branch of so many env steps would have had: its four evaluations are picked out of the run's."""
    marks = [run.start + branch_steps * part / 4 for part in (1, 2, 3, 4)]
    return later_half_mean([min(run.evaluations, key=lambda each: abs(each.env_steps - mark)) for mark in marks])


def values(arms: Mapping[str, Sequence[Run]], branch_steps: int, floor: float) -> tuple[np.ndarray, str]:
    """``[arms, seeds]`` in the measure of the gate, and its name; progress where every arm is below ``floor``."""
    measures = [[branch_measure(run, branch_steps) for run in runs] for runs in arms.values()]
    sparse = np.array([[each.sparse_return for each in arm] for arm in measures], dtype=float)
    progress = [[each.progress for each in arm] for arm in measures]
    if np.all(sparse.mean(axis=1) < floor) and all(value is not None for arm in progress for value in arm):
        return np.array(progress, dtype=float), "progress"
    return sparse, "sparse_return"


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation over the last axis, ``[..., n] -> [...]``; NaN where one side is constant."""
    ranks = [rankdata(each, axis=-1) for each in (a, b)]
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in ranks)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.divide((x * y).sum(axis=-1), size, out=np.full(size.shape, np.nan), where=size > 0)


def rows(field: Field, found: Sequence[Mapping[str, Sequence[Run]]], resamples: int = RESAMPLES) -> list[Row]:
    """The table of a task from its runs: per parent, per shaping, one run per seed."""
    gate, rng = GateSettings(), np.random.default_rng(0)
    floor = gate.floor * field.case.max_return
    ends = [round_up(field.case.run, int(units * field.unit)) for units in (*SHORT, *LONG)]
    measured = [[values(arms, end, floor) for end in ends] for arms in found]
    seeds = measured[0][0][0].shape[1]
    means = np.array([[each.mean(axis=1) for each, _ in of_parent] for of_parent in measured])
    drawn = np.empty((resamples, *means.shape))
    for parent, of_parent in enumerate(measured):
        pick = rng.integers(seeds, size=(resamples, means.shape[2], seeds))
        for end, (each, _) in enumerate(of_parent):
            drawn[:, parent, end] = np.take_along_axis(each[None], pick, axis=2).mean(axis=2)
    point, noisy = _correlations(means), _correlations(drawn)
    overall, best = point.mean(axis=1), int(np.argmax(point.mean(axis=1)))
    behind = noisy.mean(axis=2)[:, [best]] - noisy.mean(axis=2)
    enough = [
        position
        for position in range(len(SHORT))
        if overall[position] >= LEAST_RHO
        and (overall[position] == overall[best] or np.quantile(behind[:, position], 0.025) <= 0)
    ]
    runs = [run for arms in found for of_arm in arms.values() for run in of_arm]
    pace = sum(run.seconds for run in runs) / sum(run.env_steps for run in runs)
    controls = [control_of(field, parent) for parent in field.parents]
    shown = []
    for position, branch_steps in enumerate(ends[: len(SHORT)]):
        steps = _decision(field, branch_steps, gate)
        taus = [kendalltau(of_parent[position], of_parent[-1]).statistic for of_parent in means]
        names = sorted({of_parent[position][1] for of_parent in measured})
        shown.append(
            Row(
                branch_steps,
                " or ".join(names),
                tuple(point[position].tolist()),
                tuple(
                    tuple(np.quantile(noisy[:, position, each], (0.025, 0.975)).tolist()) for each in range(len(LONG))
                ),
                float(np.mean(taus)),
                _same_side(means[:, position], means[:, -1], controls),
                steps,
                steps * pace,
                position == min(enough, default=None),
            )
        )
    return shown


def _correlations(means: np.ndarray) -> np.ndarray:
    """``[..., parents, lengths, arms] -> [..., short, long]``: mean over the parents."""
    short, long = means[..., : len(SHORT), None, :], means[..., None, len(SHORT) :, :]
    return np.nanmean(spearman(*np.broadcast_arrays(short, long)), axis=-3)


def control_of(field: Field, parent: Parent) -> int:
    """The arm that continues the parent's shaping."""
    return next(position for position, config in enumerate(field.shapings.values()) if config == parent.shaping)


def _same_side(short: np.ndarray, long: np.ndarray, controls: Sequence[int]) -> float:
    """Share of the arms ``[parents, arms]`` that are on the same side of their parent's control at both lengths."""
    agreed = []
    for before, after, control in zip(short, long, controls, strict=True):
        sides = [np.sign(each - each[control]) for each in (before, after)]
        agreed.append(np.delete(sides[0] == sides[1], control))
    return float(np.mean(agreed))


def _decision(field: Field, branch_steps: int, gate: GateSettings) -> int:
    screen = round_up(field.case.run, int(branch_steps * gate.screen_fraction))
    return screen * gate.screen_seeds * (CANDIDATES + 1) + branch_steps * gate.judge.runs(gate, screened=True)

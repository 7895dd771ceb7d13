"""The length of a branch: how well the order of shapings after a short one predicts their order after a long one.

    python -m bench.branch_length [--tasks TASK ...] [--seeds 3] [--workers 2] [--store FOLDER] [--write] [--quick]

With ``--json`` the table is printed as JSON.

From two parents per task eight shapings are trained with every seed to ten times the task's unit of length. A branch is
the beginning of such a run, with the evaluations it would have had by itself, so a length is judged by what the gate
would see: mean sparse return of the later half, or progress where every arm is below the competence floor.

"rho" is Spearman's rank correlation between the arms' means over seeds at this length and at 4 and 10 units, "tau" is
Kendall's at 10; both are means over the parents. Intervals are bootstraps over seeds, rough where seeds are few. "same
side" is the share of shapings that are on the same side of the control as at 10 units. Recommended is the shortest
length whose rho (mean of both) is at least 0.7 and not below the best one's by more than the bootstrap's noise; where
there is none, no short branch tells the order of long ones. A decision is a screen of three candidates at half the
length and a confirmation, with the gate's defaults.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from scipy.stats import kendalltau, rankdata

from bench._readme import put
from bench._trials import CASES, COVERAGE, FORAGING, SPARSE, TO_A_FOOD, Case, Parent, shaping
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.gate.measure import Measure, later_half_mean
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.segment import SegmentSpec, round_up
from learning_signal.marl.shaping import ShapingConfig

README = Path(__file__).with_name("README.md")
SHORT, LONG = (0.25, 0.5, 1.0, 2.0), (4.0, 10.0)
"""Horizons in units of length: those to choose from, and those to be predicted."""
PIECES = (0.25, 0.25, 0.5, *[1.0] * 9)
"""Segments of a run in units: their four evaluations are those that a branch of each branch_steps needs."""
RESAMPLES = 2000
LEAST_RHO = 0.7
"""A branch_steps that predicts less is not recommended, however noisy the others are."""
FIRST_SEED = 1000
CANDIDATES = 3
"""Of a decision's screen."""


@dataclass(frozen=True)
class Field:
    """What is compared on a task."""

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
    """One branch_steps."""

    branch_steps: int
    judged_on: str
    rho: tuple[float, ...]
    """At each of ``LONG``."""
    interval: tuple[tuple[float, float], ...]
    tau: float
    same_side: float
    env_steps: int
    """Of a decision."""
    seconds: float
    """Of workers, for a decision."""
    recommended: bool


def train(
    field: Field, pool: WorkerPool, parent: str, config: ShapingConfig, seed: int, tell: Callable[[int], None]
) -> Run:
    """Train one shaping from ``parent`` segment by segment; ``SegmentFailed`` where one cannot be computed."""
    results, before = [], parent
    for steps in field.steps:
        spec = SegmentSpec(run=field.case.run, parent=before, shaping=config, env_steps=steps, seed=seed)
        results.append(pool.submit(spec).result())
        before = spec.id
        tell(steps)
    evaluations = tuple(each for result in results for each in result.evaluations_of("confirm"))
    seconds = sum(result.wall_seconds for result in results)
    return Run(evaluations, results[0].start_env_steps, sum(field.steps), seconds)


def branch_measure(run: Run, branch_steps: int) -> Measure:
    """What a branch of so many env steps would have scored: its four evaluations are picked out of the run's."""
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
    controls = [_control(field, parent) for parent in field.parents]
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
    """``[..., parents, horizons, arms] -> [..., short, long]``: mean over the parents."""
    short, long = means[..., : len(SHORT), None, :], means[..., None, len(SHORT) :, :]
    return np.nanmean(spearman(*np.broadcast_arrays(short, long)), axis=-3)


def _control(field: Field, parent: Parent) -> int:
    """Which arm goes on as the parent did."""
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
    return screen * gate.screen_seeds * (CANDIDATES + 1) + branch_steps * gate.confirm_seeds * 2


def measure(
    field: Field, seeds: int, pool: WorkerPool, threads: ThreadPoolExecutor, tell: Callable[[int], None]
) -> list[dict[str, list[Run]]]:
    """Train what is not stored yet: per parent, per shaping, one run per seed."""
    trunks = [pool.submit(field.case.trunk(parent)) for parent in field.parents]
    jobs = [
        {
            name: [
                threads.submit(train, field, pool, trunk.result().id, config, FIRST_SEED + seed, tell)
                for seed in range(seeds)
            ]
            for name, config in field.shapings.items()
        }
        for trunk in trunks
    ]
    return [{name: [job.result() for job in of_arm] for name, of_arm in arms.items()} for arms in jobs]


HEADER = (
    "branch_steps",
    "judged on",
    "rho at 4",
    "rho at 10",
    "tau at 10",
    "same side",
    "decision",
    "core s",
    "wall s",
)


def cells(row: Row, workers: int) -> list[str]:
    """A row of the table, in words."""
    rho = [f"{each:.2f} [{low:.2f}, {high:.2f}]" for each, (low, high) in zip(row.rho, row.interval, strict=True)]
    return [
        f"{row.branch_steps:,}" + (" (recommended)" if row.recommended else ""),
        row.judged_on,
        *rho,
        f"{row.tau:.2f}",
        f"{row.same_side:.0%}",
        f"{row.env_steps / 1e6:.2f} M",
        f"{row.seconds:.1f}",
        f"{row.seconds / workers:.1f}",
    ]


def caption(field: Field) -> str:
    """What was compared, and from where."""
    parents = "; ".join(f"{parent.name} at {parent.env_steps:,} env steps" for parent in field.parents)
    return f"{field.case.task}: unit {field.unit:,} env steps; from {parents}. Shapings: {'; '.join(field.shapings)}."


def written(found: Mapping[str, Sequence[Row]], workers: int, command: str) -> str:
    """The tables in Markdown."""
    lines = [f"`{command}`, {date.today().isoformat()}, {workers} workers."]
    for task, of_task in found.items():
        lines += [
            "",
            caption(FIELDS[task]),
            "",
            "| " + " | ".join(HEADER) + " |",
            "| " + " | ".join(["---"] * len(HEADER)) + " |",
            *("| " + " | ".join(cells(row, workers)) + " |" for row in of_task),
        ]
    return "\n".join(lines)


def quick(field: Field) -> Field:
    """The same with runs that take seconds."""
    case = replace(field.case, parents=(), episodes=16)
    parents = (replace(field.parents[0], env_steps=3_200),)
    few = {name: field.shapings[name] for name in list(field.shapings)[:3]}
    return replace(field, case=case, unit=6_400, parents=parents, shapings=few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=list(FIELDS),
        default=list(FIELDS),
        metavar="TASK",
        help=f"some of {', '.join(FIELDS)}",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each shaping from each parent (default 3)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--store", type=Path, default=Path("runs/gate"), help="where segments are kept")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/README.md")
    parser.add_argument("--quick", action="store_true", help="three shapings from one parent, on runs of seconds")
    parser.add_argument("--json", action="store_true", help="print a JSON object of rows per task")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing worth writing: leave --write or --quick out.")
    if arguments.seeds < 2:
        parser.error(f"Found --seeds {arguments.seeds}, expected at least 2 for an interval over seeds: raise it.")
    fields = [quick(FIELDS[name]) if arguments.quick else FIELDS[name] for name in arguments.tasks]
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    found = {}
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(2 * arguments.workers) as threads,
        WorkerPool(arguments.store, arguments.workers) as pool,  # left first: then the threads have nothing to wait for
    ):
        for field in fields:
            total = len(field.parents) * len(field.shapings) * arguments.seeds * sum(field.steps)
            bar = progress.add_task(field.case.task, total=total)
            runs = measure(field, arguments.seeds, pool, threads, lambda steps, bar=bar: progress.advance(bar, steps))
            found[field.case.task] = rows(field, runs)
    if arguments.write:
        command = " ".join(["python -m bench.branch_length", *sys.argv[1:]])
        put(written(found, arguments.workers, command), "branch_steps", README)
    if arguments.json:
        print(json.dumps(found, default=vars))
        return
    out = Console(width=None if sys.stdout.isatty() else 100)
    for field in fields:
        shown = Table(title=caption(field), title_justify="left", box=None)
        for name in HEADER:
            shown.add_column(name, overflow="fold")
        for row in found[field.case.task]:
            shown.add_row(*cells(row, arguments.workers), style="bold" if row.recommended else "")
        out.print(shown)


if __name__ == "__main__":
    main()

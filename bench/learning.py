"""Learning: sparse return by env steps on the published tasks, with the settings of their family and without shaping.

    python -m bench.learning [--tasks TASK ...] [--learners NAME ...] [--seeds 3] [--workers 2] [--store FOLDER]
        [--write] [--quick] [--json]

A run is a chain of segments of about 100,000 env steps in a store, so that a stopped run goes on where it was. Four
times per segment the greedy policy plays 513 episodes; a result is their mean return as a share of the task's maximum.
"Seconds" are those of one worker process, which has one thread: training, evaluation and saving. With ``--write`` the
table and its plot go into ``bench/README.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.support.plot import Curve, Point, draw
from bench.support.readme import command_of, put
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.gate.statistics import interval
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, rollout_size
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task

PUBLISHED = "Foraging-8x8-2p-2f-coop-v3"
"""The task for which another implementation's curve is known."""
ROWS = (
    (PUBLISHED, "mappo"),
    (PUBLISHED, "ippo"),
    (PUBLISHED, "qmix"),
    (PUBLISHED, "vdn"),
    ("Foraging-2s-8x8-2p-2f-coop-v3", "mappo"),
    ("Foraging-10x10-3p-3f-v3", "mappo"),
)
MARKS = (250_000, 400_000, 1_000_000)
"""Env steps at which results are given; the last is the length of a run."""
SEGMENT = 100_000
"""Env steps of a segment, about."""
SOLVED = 0.86
FIRST_SEED = 100
"""The settings in ``marl/hyperparameters.py`` were chosen on seeds 0 to 2: these are others."""
EPISODES = 171
"""In each of the three evaluation sets, which are taken together here."""
EPYMARL = {250_000: 0.24, 400_000: 0.865}
"""EPyMARL's MAPPO (its defaults: GRU) on ``PUBLISHED``: one seed, greedy; 836 s to the second."""
EPYMARL_SECONDS = 836
README = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Sizes:
    """The size of a measurement: all of it, or a little to check that it works."""

    rows: tuple[tuple[str, str], ...] = ROWS
    marks: tuple[int, ...] = MARKS
    segment: int = SEGMENT
    episodes: int = EPISODES


QUICK = Sizes(rows=((PUBLISHED, "mappo"), (PUBLISHED, "vdn")), marks=(6_400, 12_800), segment=6_400, episodes=20)


@dataclass(frozen=True)
class Row(Curve):
    """All seeds of one task and learner, and what they cost."""

    env_steps: int
    """Of all seeds."""
    computed: int
    """Those of them that this command trained, not an earlier one."""

    def at(self, mark: int) -> list[float] | None:
        """The share of every seed at its last evaluation not after ``mark``; None where there is none."""
        found = [[point.share for point in points if point.env_steps <= mark] for points in self.seeds]
        return [shares[-1] for shares in found] if all(found) else None

    def solved(self) -> list[Point]:
        """The first evaluation at ``SOLVED`` or above, of the seeds that have one."""
        firsts = (next((point for point in points if point.share >= SOLVED), None) for points in self.seeds)
        return [point for point in firsts if point is not None]

    @property
    def seconds(self) -> float:
        """Of one worker, mean over the seeds."""
        return sum(points[-1].seconds for points in self.seeds) / len(self.seeds)


def settings(task: str, algorithm: str, episodes: int) -> RunSettings:
    """The default settings of the task and algorithm, except for the evaluation."""
    evaluation = {"policy": "greedy", "episodes": episodes, "points": 4}
    return RunSettings.model_validate({"task": task, "learner": {"algorithm": algorithm}, "evaluation": evaluation})


def ends(size: int, sizes: Sizes) -> list[int]:
    """Where segments end: whole rollouts of ``size`` env steps, none after a mark that it should be counted at."""
    wanted = {*range(sizes.segment, sizes.marks[-1] + 1, sizes.segment), *sizes.marks}
    return sorted({end // size * size for end in wanted} - {0})


def chain(
    pool: WorkerPool, run: RunSettings, seed: int, sizes: Sizes, advance: Callable[[int], None]
) -> list[SegmentResult]:
    """Train one seed segment by segment; ``advance`` is told the env steps of each."""
    results: list[SegmentResult] = []
    start, parent = 0, None
    for end in ends(rollout_size(run), sizes):
        spec = SegmentSpec(run=run, parent=parent, shaping=ShapingConfig.none(), env_steps=end - start, seed=seed)
        results.append(pool.submit(spec).result())
        start, parent = end, spec.id
        advance(spec.env_steps)
    return results


def points_of(results: Sequence[SegmentResult], largest: float) -> tuple[Point, ...]:
    """Every evaluation of a chain: its episodes of all sets together, and the seconds until then."""
    points, before = [], 0.0
    for result in results:
        returns: dict[int, list[float]] = {}
        for evaluation in result.evaluations:
            returns.setdefault(evaluation.env_steps, []).extend(evaluation.sparse_returns)
        for env_steps, episodes in sorted(returns.items()):
            done = (env_steps - result.start_env_steps) / result.env_steps
            share = sum(episodes) / len(episodes) / largest
            points.append(Point(env_steps, share, before + done * result.wall_seconds))
        before += result.wall_seconds
    return tuple(points)


def measure(sizes: Sizes, seeds: int, workers: int, store: Path, console: Console) -> list[Row]:
    """Train and evaluate every row; raises ``SegmentFailed`` where a segment cannot be computed."""
    runs = [settings(task, algorithm, sizes.episodes) for task, algorithm in sizes.rows]
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with (
        Progress(*columns, console=console, transient=True) as progress,
        ThreadPoolExecutor(workers) as threads,
        WorkerPool(store, workers) as pool,  # left first: then the threads have nothing to wait for
    ):
        totals = [ends(rollout_size(run), sizes)[-1] for run in runs]
        bar = progress.add_task(f"{len(runs)} learners, {seeds} seeds", total=seeds * sum(totals))
        jobs = [
            [
                threads.submit(chain, pool, run, seed, sizes, lambda steps: progress.advance(bar, steps))
                for seed in range(FIRST_SEED, FIRST_SEED + seeds)
            ]
            for run in runs
        ]
        return [_row(run, [job.result() for job in of_run]) for run, of_run in zip(runs, jobs, strict=True)]


def _row(run: RunSettings, chains: Sequence[Sequence[SegmentResult]]) -> Row:
    learner, largest = run.learner, make_task(run.task, 1).spec.max_return
    segments = [result for results in chains for result in results]
    return Row(
        task=run.task,
        learner=learner.algorithm.upper() + (" (GRU)" if learner.memory == "gru" else ""),
        seeds=tuple(points_of(results, largest) for results in chains),
        env_steps=sum(result.env_steps for result in segments),
        computed=sum(result.env_steps for result in segments if not result.reused),
    )


def cells(row: Row, marks: Sequence[int]) -> list[str]:
    """A row of the table, in words."""
    solved, seeds = row.solved(), len(row.seeds)
    steps = seconds = "-"
    if solved:
        some = "" if len(solved) == seeds else f" ({len(solved)} of {seeds})"
        steps = f"{sum(point.env_steps for point in solved) / len(solved) / 1000:.0f} k{some}"
        seconds = f"{sum(point.seconds for point in solved) / len(solved):.0f} s{some}"
    return [
        row.task,
        row.learner,
        str(seeds),
        *(_interval(row.at(mark)) for mark in marks),
        steps,
        seconds,
        f"{row.seconds:.0f} s",
    ]


def _interval(shares: list[float] | None) -> str:
    """Mean and 95 % Student-t interval, which one seed does not have."""
    if shares is None:
        return "-"
    mean = f"{sum(shares) / len(shares):.2f}"
    return mean if len(shares) < 2 else "{} [{:.2f}, {:.2f}]".format(mean, *interval(shares, 0.95))


def header(marks: Sequence[int]) -> list[str]:
    """The names of the columns."""
    return [
        "task",
        "learner",
        "seeds",
        *(f"at {_short(mark)}" for mark in marks),
        f"to {SOLVED}",
        "seconds to it",
        "whole run",
    ]


def _short(steps: int) -> str:
    return f"{steps / 1e6:g} M" if steps >= 1_000_000 else f"{steps / 1e3:g} k"


def epymarl(marks: Sequence[int]) -> list[str]:
    """The row of the other implementation."""
    shares = (f"{EPYMARL[mark]:.3g}" if mark in EPYMARL else "-" for mark in marks)
    return [PUBLISHED, "EPyMARL MAPPO (GRU)", "1", *shares, "400 k", f"{EPYMARL_SECONDS} s", "-"]


def written(rows: Sequence[Row], marks: Sequence[int], command: str, wall: float) -> str:
    """The table in Markdown with what was run, when, and what it cost."""
    lines = [header(marks), ["---"] * len(header(marks)), *(cells(row, marks) for row in rows), epymarl(marks)]
    total, computed = sum(row.env_steps for row in rows), sum(row.computed for row in rows)
    cost = f"{total / 1e6:.1f} M env steps, evaluation not counted"
    cost += f", in {wall / 60:.0f} minutes of wall time." if computed == total else "; trained in several goes."
    return "\n".join(
        [
            f"`{command}`, {date.today().isoformat()}: {cost}",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            "![Learning curves](learning.svg)",
            "",
            f"Lines are means of the seeds, bands their ranges, circles EPyMARL's; dashed is {SOLVED} of the maximum.",
        ]
    )


def table(rows: Sequence[Row], marks: Sequence[int]) -> Table:
    """The table on a terminal."""
    shown = Table(title="greedy return as a share of the maximum, sparse reward only", title_justify="left", box=None)
    for name in header(marks):
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*cells(row, marks))
    shown.add_row(*epymarl(marks), style="dim")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted({task for task, _ in ROWS})
    parser.add_argument("--tasks", nargs="+", choices=names, metavar="TASK", help=f"some of {', '.join(names)}")
    learners = sorted({learner for _, learner in ROWS})
    parser.add_argument("--learners", nargs="+", choices=learners, metavar="NAME", help=f"of {', '.join(learners)}")
    parser.add_argument("--seeds", type=int, default=3, help=f"seeds {FIRST_SEED}, {FIRST_SEED + 1}, ... (default 3)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--store", type=Path, default=Path("runs/learning"), help="where segments are kept")
    parser.add_argument("--write", action="store_true", help="write the table and the plot beside bench/README.md")
    parser.add_argument("--quick", action="store_true", help="a few thousand env steps of two learners")
    parser.add_argument("--json", action="store_true", help="print a JSON list of curves")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing worth writing: leave --write or --quick out.")
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.tasks:
        sizes = replace(sizes, rows=tuple(row for row in sizes.rows if row[0] in arguments.tasks))
    if arguments.learners:
        sizes = replace(sizes, rows=tuple(row for row in sizes.rows if row[1] in arguments.learners))
    start = time.perf_counter()
    rows = measure(sizes, arguments.seeds, arguments.workers, arguments.store, Console(stderr=True))
    wall = time.perf_counter() - start
    if arguments.write:
        command = command_of("learning")
        put(written(rows, sizes.marks, command, wall), "learning", README)
        README.with_name("learning.svg").write_text(draw(rows, SOLVED, {PUBLISHED: EPYMARL}), encoding="utf-8")
    if arguments.json:
        shown = [{"task": row.task, "learner": row.learner, "curves": row.seeds} for row in rows]
        print(json.dumps(shown, default=vars))
        return
    Console().print(table(rows, sizes.marks))


if __name__ == "__main__":
    main()

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
length and a confirmation of as many branches as the gate's defaults allow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.support.branch_order import FIELDS, Field, Row, Run, rows
from bench.support.readme import command_of, put
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.shaping import ShapingConfig

README = Path(__file__).with_name("README.md")
FIRST_SEED = 1000


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
    """The shapings that were compared, and their parents."""
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
    results = {}
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(2 * arguments.workers) as threads,
        WorkerPool(arguments.store, arguments.workers) as pool,  # left first: then the threads have nothing to wait for
    ):
        for field in fields:
            total = len(field.parents) * len(field.shapings) * arguments.seeds * sum(field.steps)
            bar = progress.add_task(field.case.task, total=total)
            runs = measure(field, arguments.seeds, pool, threads, lambda steps, bar=bar: progress.advance(bar, steps))
            results[field.case.task] = rows(field, runs)
    if arguments.write:
        command = command_of("branch_length")
        put(written(results, arguments.workers, command), "branch_steps", README)
    if arguments.json:
        print(json.dumps(results, default=vars))
        return
    out = Console(width=None if sys.stdout.isatty() else 100)
    for field in fields:
        shown = Table(title=caption(field), title_justify="left", box=None)
        for name in HEADER:
            shown.add_column(name, overflow="fold")
        for row in results[field.case.task]:
            shown.add_row(*cells(row, arguments.workers), style="bold" if row.recommended else "")
        out.print(shown)


if __name__ == "__main__":
    main()

"""The gate's measured error rate: real training where nothing differs, and where good and bad shapings are offered.

    python -m bench.gate [--tasks TASK ...] [--null 120] [--offers 20] [--paired 0] [--workers 2] [--store FOLDER]
        [--write] [--quick] [--json]

A trial is one decision of the gate with its defaults. Its branches are trained and evaluated as in a session, one after
another as the trial asks for them, each on held-out episodes of its own; each table states their length.

* *Nothing differs*: the candidate is a clone of the control, same parent and same shaping. No branch serves two trials.
  A screen is left out: it would choose among equal clones, and what is confirmed has fresh seeds whichever was chosen.
* *Offered three*: a good shaping, its negative and a clone go through the whole gate, screen and confirmation.
* *Offered bad*: the negative alone goes straight to its confirmation.

Each is decided at two levels: that of a confirmation that stands alone, and that of the first one of a default
session, whose confirmations share it. A trial takes branches until both have ended, and each counts those it needed.
Beside them stands usual practice: one run of the control and of three candidates (or of the one), the best is promoted
if it is better by 3 % of the maximum; also without that margin, and on progress. It decides on the first branches of
the gate's trials. With ``--paired`` the gate of version 0.1 decides as many null trials of five pairs.

Intervals are Clopper-Pearson, 95 %, of the rate at these parents: given those, trials are independent, and parents
whose rates differ make the interval too wide, not too narrow. A decision's cost counts everything that it needs (a null
trial has no screen): means of env steps, trained and played in evaluations, and the median of its worker seconds;
"wall" is not measured, but that divided by the workers. Branches are kept in the store (about half a megabyte each), so
a stopped run goes on where it was. ``--write`` puts the tables into ``bench/README.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.support.cases import CASES, Case
from bench.support.gate_rows import Measured, Report, report
from bench.support.gate_table import plain, table, written
from bench.support.readme import command_of, put
from bench.support.trials import (
    BAD,
    CLONE,
    CONTROL,
    GATE,
    GOOD,
    PAIRED,
    Arm,
    Branch,
    Offer,
    Score,
    Trial,
    confirmation,
    offer,
    order_at,
    score,
)
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentSpec

README = Path(__file__).with_name("README.md")
Done = TypeVar("Done")
Advance = Callable[[], object]


def null_branch(case: Case, trial: int, arm: str, index: int) -> SegmentSpec:
    """Branch ``index`` of an arm (control or clone) of a null trial."""
    parent = case.parents[trial % len(case.parents)]
    return case.branch(parent, parent.shaping, derive(trial, "null", arm, index))


def paired_branch(case: Case, trial: int, arm: str, index: int) -> SegmentSpec:
    """The same for the paired gate: pairs share episodes, but no seed, or the clone would be the control itself."""
    parent = case.parents[trial % len(case.parents)]
    seeds = {name: derive(trial, "paired", name, index) for name in (CONTROL, arm)}
    return case.branch(parent, parent.shaping, seeds[arm], partner=seeds[CONTROL])


def offered_branch(case: Case, trial: int, arm: str, purpose: str, index: int) -> SegmentSpec:
    """Branch ``index`` of an arm of a trial with candidates; ``purpose``: screen, confirm, or alone (no screen).

    In a screen the arms share their seeds, as in a session; the clone has others, or it would be the control itself.
    """
    parent = case.parents[trial % case.offered]
    config = {GOOD: case.good, BAD: case.bad}.get(arm, parent.shaping)
    if purpose == "screen":
        seed = derive(trial, purpose, "clone" if arm == CLONE else "all", index)
        return case.branch(parent, config, seed, "screen", GATE.screen_fraction, derive(trial, purpose, "all", index))
    return case.branch(parent, config, derive(trial, purpose, arm, index))


def measure(
    case: Case, null: int, offers: int, paired: int, pool: Executor, threads: ThreadPoolExecutor, advance: Advance
) -> Measured:
    """Run the trials, training what is not stored yet; ``SegmentImpossible`` where the machine is at fault."""
    heads = [score(pool, case.trunk(parent), "query").measure for parent in case.parents]

    def nothing_differs(trial: int) -> Trial:
        control, clone = (_numbered(pool, case, trial, arm) for arm in (CONTROL, CLONE))
        return confirmation(control, clone, order_at(heads[trial % len(heads)]), case.max_return)

    def offered(trial: int) -> Offer:
        return offer(_offering(pool, case, trial), heads[trial % case.offered], case.max_return)

    def in_pairs(trial: int) -> tuple[Arm, Arm]:
        arms = {
            arm: [
                score(pool, paired_branch(case, trial, arm, index), "confirm") for index in range(PAIRED.confirm_seeds)
            ]
            for arm in (CONTROL, CLONE)
        }
        return arms[CONTROL], arms[CLONE]

    def all_of(decide: Callable[[int], Done], count: int) -> list[Done]:
        found = []
        for each in threads.map(decide, range(count)):
            found.append(each)
            advance()
        return found

    return Measured(all_of(nothing_differs, null), all_of(offered, offers), all_of(in_pairs, paired))


def _numbered(pool: Executor, case: Case, trial: int, arm: str) -> Callable[[int], Score]:
    return lambda index: score(pool, null_branch(case, trial, arm, index), "confirm")


def _offering(pool: Executor, case: Case, trial: int) -> Branch:
    def branch(arm: str, purpose: str, index: int) -> Score:
        spec = offered_branch(case, trial, arm, purpose, index)
        return score(pool, spec, "screen" if purpose == "screen" else "confirm")

    return branch


def quick(case: Case) -> Case:
    """The same with branches that take a fraction of a second."""
    parents = tuple(replace(parent, env_steps=3_200) for parent in case.parents)
    return replace(case, length=12_800, parents=parents, episodes=16)


def run(
    cases: Sequence[Case], null: int, offers: int, paired: int, workers: int, store: Path, console: Console
) -> list[Report]:
    """The report of every case, with a bar of trials."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with (
        Progress(*columns, console=console, transient=True) as progress,
        ThreadPoolExecutor(2 * workers) as threads,
        WorkerPool(store, workers) as pool,  # left first: then the threads have nothing to wait for
    ):
        reports = []
        for case in cases:
            bar = progress.add_task(case.task, total=null + offers + paired)
            found = measure(case, null, offers, paired, pool, threads, lambda bar=bar: progress.advance(bar))
            reports.append(report(case, found, workers))
        return reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=list(CASES),
        default=list(CASES),
        metavar="TASK",
        help=f"some of {', '.join(CASES)}",
    )
    parser.add_argument("--null", type=int, default=120, help="trials per task in which nothing differs (default 120)")
    parser.add_argument("--offers", type=int, default=20, help="trials per task of good and bad (default 20)")
    parser.add_argument("--paired", type=int, default=0, help="null trials of the gate of version 0.1 (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--store", type=Path, default=Path("runs/gate"), help="where branches are kept")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/README.md")
    parser.add_argument("--quick", action="store_true", help="4 trials of each kind, on branches of under a second")
    parser.add_argument("--json", action="store_true", help="print a JSON list of reports")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing worth writing: leave --write or --quick out.")
    counts = [arguments.null, arguments.offers, arguments.paired]
    if min(counts) < 0 or sum(counts) == 0:
        parser.error("Found no trial to run, expected --null, --offers or --paired above 0: raise one of them.")
    cases = [CASES[name] for name in arguments.tasks]
    if arguments.quick:
        cases, counts = [quick(case) for case in cases], [min(count, 4) for count in counts]
    workers = arguments.workers
    reports = run(cases, *counts, workers, arguments.store, Console(stderr=True))
    if arguments.write:
        command = command_of("gate")
        put(written(reports, workers, command), "gate", README)
    if arguments.json:
        print(json.dumps([plain(found, workers) for found in reports]))
        return
    out = Console(width=None if sys.stdout.isatty() else 100)
    for found in reports:
        out.print(table(found, workers))


if __name__ == "__main__":
    main()

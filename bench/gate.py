"""The gate's measured error rate: real training where nothing differs, and where good and bad shapings are offered.

    python -m bench.gate [--tasks TASK ...] [--null 160] [--offers 40] [--workers 2] [--store FOLDER]
        [--write] [--quick] [--json]

A trial is one decision of the gate with its defaults, on branches that are trained as a session trains them and are as
long as a session's on that task; each table states the length.

* *Nothing differs*: the candidate is a clone of the control, same parent and same shaping, on seeds of its own. Five
  pairs, so ten full branches per trial, and no branch serves two trials. A screen is left out: it would choose among
  equal clones, and what is confirmed has fresh seeds whichever was chosen.
* *Offered three*: a good shaping, its negative and a clone go through the whole gate, screen and confirmation.
* *Offered bad*: the negative alone goes straight to its confirmation.

Beside the gate stands usual practice on the same branches: one run of the control and of three candidates (or of the
one), the best is promoted if it is better by 3 % of the maximum; also without that margin, and on progress. Intervals
are Clopper-Pearson, 95 %, of the rate at these parents and on their one set of episodes: given those, trials are
independent, and parents whose rates differ make the interval too wide, not too narrow. A decision's cost counts
everything that its trial needs (a null trial has no screen): the median of its worker seconds; "wall" is not measured,
but that divided by the workers. Branches are kept in the store (about half a megabyte each), so a stopped
run goes on where it was. ``--write`` puts the tables into ``bench/README.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.support.gate_table import Report, Row, plain, table, written
from bench.support.readme import put
from bench.support.trials import (
    BAD,
    CASES,
    CLONE,
    CONTROL,
    GOOD,
    Arm,
    Case,
    Null,
    Offer,
    Score,
    scores,
    share_interval,
    usual,
    verdict,
)
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.gate.confirmation import Verdict
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentSpec

README = Path(__file__).with_name("README.md")
WORST_RATE, WORST_UPPER, LEAST_POWER = 0.05, 0.10, 0.80
SECONDS = 30.0
"""Wall seconds that a decision on ``spread`` may take on two workers."""

USUAL = {"usual practice": {}, "usual, without the 3 %": {"margin": 0.0}, "usual, on progress": {"measure": "progress"}}
"""Variants of usual practice with single runs: on sparse return, as public systems do it, and two others."""

Wanted = tuple[SegmentSpec, str]
"""A branch, and the set of episodes that it is judged on."""


def null_branches(case: Case, trial: int, gate: GateSettings) -> Iterator[Wanted]:
    """The branches of a null trial: the control's, then the clone's."""
    parent = case.parents[trial % len(case.parents)]
    for arm in (CONTROL, CLONE):
        for index in range(gate.confirm_seeds):
            yield case.branch(parent, parent.shaping, derive(trial, "null", arm, index)), "confirm"


def offer_branches(case: Case, trial: int, gate: GateSettings) -> Iterator[Wanted]:
    """The branches of a trial of offered shapings: the screen's four arms, then control, good and bad in full."""
    parent = case.parents[trial % case.offered]
    shapings = {CONTROL: parent.shaping, GOOD: case.good, BAD: case.bad, CLONE: parent.shaping}
    for arm, shaping in shapings.items():
        for index in range(gate.screen_seeds):
            yield case.branch(parent, shaping, _seed(trial, "screen", arm, index), gate.screen_fraction), "screen"
    for arm in (CONTROL, GOOD, BAD):
        for index in range(gate.confirm_seeds):
            yield case.branch(parent, shapings[arm], _seed(trial, "confirm", arm, index)), "confirm"


def clone_branches(case: Case, trial: int, gate: GateSettings) -> Iterator[Wanted]:
    """The confirmation of the clone, where the screen chose it."""
    parent = case.parents[trial % case.offered]
    for index in range(gate.confirm_seeds):
        yield case.branch(parent, parent.shaping, _seed(trial, "confirm", CLONE, index)), "confirm"


def _seed(trial: int, purpose: str, arm: str, index: int) -> int:
    """Arms share their seeds as in a session; the clone has others, or it would be the control itself."""
    return derive(trial, f"{purpose} of the clone" if arm == CLONE else purpose, index)


def measure(
    case: Case, null: int, offers: int, gate: GateSettings, pool: WorkerPool, advance: Callable[[int], None]
) -> Report:
    """Train what is not stored yet and let every rule decide; ``SegmentImpossible`` where the machine is at fault."""
    scores(pool, [(case.trunk(parent), "confirm") for parent in case.parents], advance)
    branches = [each for trial in range(null) for each in null_branches(case, trial, gate)]
    results = iter(scores(pool, branches, advance))
    nulls = [Null(_take(results, gate.confirm_seeds), _take(results, gate.confirm_seeds)) for _ in range(null)]
    branches = [each for trial in range(offers) for each in offer_branches(case, trial, gate)]
    results = iter(scores(pool, branches, advance))
    offered = [_offer(results, gate) for _ in range(offers)]
    for trial, offer in enumerate(offered):
        if offer.chosen(case.max_return, gate) == CLONE:
            clone = scores(pool, clone_branches(case, trial, gate))
            offered[trial] = replace(offer, confirm={**offer.confirm, CLONE: clone})
    return report(case, nulls, offered, gate, pool.worker_count)


def _take(found: Iterator[Score], count: int) -> list[Score]:
    return [next(found) for _ in range(count)]


def _offer(found: Iterator[Score], gate: GateSettings) -> Offer:
    screen = {arm: _take(found, gate.screen_seeds) for arm in (CONTROL, GOOD, BAD, CLONE)}
    return Offer(screen, {arm: _take(found, gate.confirm_seeds) for arm in (CONTROL, GOOD, BAD)})


def report(case: Case, nulls: Sequence[Null], offers: Sequence[Offer], gate: GateSettings, workers: int) -> Report:
    """Every rule's decisions on these trials, counted."""
    verdicts = [verdict(trial.control, trial.clone, case.max_return, gate) for trial in nulls]
    rows = [*_null_rows(case, nulls, verdicts), *_offer_rows(case, offers, gate, workers)]
    parents = []
    for position, parent in enumerate(case.parents):
        own = range(position, len(nulls), len(case.parents))
        branches = [score.measure for index in own for score in (*nulls[index].control, *nulls[index].clone)]
        parents.append(
            {
                "parent": parent.name,
                "env_steps": case.trunk(parent).env_steps,
                "shaping": shaping_text(parent.shaping.canonical()),
                "sparse_return": _mean([each.sparse_return for each in branches]),
                "progress": _mean([each.progress for each in branches]),
                "judged_on": dict(Counter(verdicts[index].measure for index in own)),
                "trials": len(own),
                "promoted": sum(verdicts[index].outcome == "pass" for index in own),
            }
        )
    return Report(case, tuple(rows), tuple(parents), dict(Counter(each.outcome for each in verdicts)))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _null_rows(case: Case, nulls: Sequence[Null], verdicts: Sequence[Verdict]) -> list[Row]:
    if not nulls:
        return []
    largest, fours = case.max_return, [four for trial in nulls for four in trial.fours]
    false = sum(each.outcome == "pass" for each in verdicts)
    upper = share_interval(false, len(nulls))[1]
    row = Row(
        "nothing differs",
        "this gate",
        len(nulls),
        false,
        *_cost([[*t.control, *t.clone] for t in nulls]),
        f"<= {WORST_RATE:.0%}, upper <= {WORST_UPPER:.0%}",
        false / len(nulls) <= WORST_RATE and upper <= WORST_UPPER,
    )
    cost = _cost([[control, *others.values()] for control, others in fours])
    return [row] + [
        Row(
            "nothing differs",
            rule,
            len(fours),
            sum(usual(*four, largest, **options) is not None for four in fours),
            *cost,
        )
        for rule, options in USUAL.items()
    ]


def _offer_rows(case: Case, offers: Sequence[Offer], gate: GateSettings, workers: int) -> list[Row]:
    if not offers:
        return []
    largest, trials = case.max_return, len(offers)
    named = [offer.promoted(largest, gate) for offer in offers]
    cost = _cost([offer.needed(largest, gate) for offer in offers])
    good, other = named.count(GOOD), sum(name in (BAD, CLONE) for name in named)
    wall = cost[1] / workers
    in_time = case.task != "spread" or workers != 2 or wall <= SECONDS
    rows = [
        Row(
            "offered three: the good one",
            "this gate",
            trials,
            good,
            *cost,
            f">= {LEAST_POWER:.0%}" + (f", {SECONDS:.0f} s" if case.task == "spread" else ""),
            good / trials >= LEAST_POWER and in_time,
        ),
        Row("offered three: another", "this gate", trials, other, *cost),
    ]
    fours = [four for offer in offers for four in offer.fours]
    cost = _cost([[control, *others.values()] for control, others in fours])
    for rule, options in USUAL.items():
        names = [usual(*four, largest, **options) for four in fours]
        good, none = names.count(GOOD), names.count(None)
        rows += [
            Row("offered three: the good one", rule, len(fours), good, *cost),
            Row("offered three: another", rule, len(fours), len(fours) - good - none, *cost),
        ]
    bad = sum(verdict(o.confirm[CONTROL], o.confirm[BAD], largest, gate).outcome == "pass" for o in offers)
    twos = [(control, {BAD: others[BAD]}) for control, others in fours]
    cost = _cost([[control, *others.values()] for control, others in twos])
    return [
        *rows,
        Row("offered bad", "this gate", trials, bad, *_cost([[*o.confirm[CONTROL], *o.confirm[BAD]] for o in offers])),
        *(
            Row("offered bad", rule, len(twos), sum(usual(*two, largest, **options) is not None for two in twos), *cost)
            for rule, options in USUAL.items()
        ),
    ]


def _cost(decisions: Sequence[Arm]) -> tuple[float, float]:
    """Env steps (mean) and worker seconds (median: other work slows some) of one decision."""
    steps = [sum(score.env_steps for score in branches) for branches in decisions]
    return fmean(steps), median(sum(score.seconds for score in branches) for branches in decisions)


def quick(case: Case) -> Case:
    """The same with branches that take a fraction of a second."""
    parents = tuple(replace(parent, env_steps=3_200) for parent in case.parents)
    return replace(case, length=12_800, parents=parents, episodes=16)


def run(
    cases: Sequence[Case], null: int, offers: int, gate: GateSettings, workers: int, store: Path, console: Console
) -> list[Report]:
    """The report of every case, with a bar of env steps."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress, WorkerPool(store, workers) as pool:
        reports = []
        for case in cases:
            total = sum(case.trunk(parent).env_steps for parent in case.parents)
            total += null * sum(spec.env_steps for spec, _ in null_branches(case, 0, gate))
            total += offers * sum(spec.env_steps for spec, _ in offer_branches(case, 0, gate))
            bar = progress.add_task(case.task, total=total)
            reports.append(measure(case, null, offers, gate, pool, lambda steps, bar=bar: progress.advance(bar, steps)))
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
    parser.add_argument("--null", type=int, default=160, help="trials per task in which nothing differs (default 160)")
    parser.add_argument("--offers", type=int, default=40, help="trials per task of good and bad (default 40)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--store", type=Path, default=Path("runs/gate"), help="where branches are kept")
    parser.add_argument("--write", action="store_true", help="write the tables into bench/README.md")
    parser.add_argument("--quick", action="store_true", help="4 trials of each kind, on branches of under a second")
    parser.add_argument("--json", action="store_true", help="print a JSON list of reports")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing worth writing: leave --write or --quick out.")
    if min(arguments.null, arguments.offers) < 0 or arguments.null + arguments.offers == 0:
        parser.error("Found no trial to run, expected --null or --offers above 0: raise one of them.")
    cases, null, offers = [CASES[name] for name in arguments.tasks], arguments.null, arguments.offers
    if arguments.quick:
        cases, null, offers = [quick(case) for case in cases], min(null, 4), min(offers, 4)
    workers = arguments.workers
    reports = run(cases, null, offers, GateSettings(), workers, arguments.store, Console(stderr=True))
    if arguments.write:
        command = " ".join(["python -m bench.gate", *sys.argv[1:]])
        put(written(reports, workers, command), "gate", README)
    if arguments.json:
        print(json.dumps([plain(found, workers) for found in reports]))
        return
    out = Console(width=None if sys.stdout.isatty() else 100)
    for found in reports:
        out.print(table(found, workers))


if __name__ == "__main__":
    main()

"""Stacked branches: env steps per second of a core for 1, 2, 4 and 8 branches in one process, and where time goes.

    python -m bench.stacked [--size spread] [--branches 2 4 8] [--updates 6] [--rounds 3] [--processes 2]
                            [--quick] [--json]

Sizes: `spread` and `foraging` are the defaults of those tasks, `spread-32` and `spread-16` have fewer environments.
Every round trains one branch alone and every stack in turns, on one thread, from newly drawn weights; six updates and
two small evaluations keep the proportions of a segment of 60,000 env steps. A rate is env steps over the thread's own
seconds, so that neighbours on the machine matter less. `--processes` compares wall seconds of that many processes,
alone and stacked, and wants as many idle cores. The share of matrix products is torch's profile of one update.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from marl.learners import Collector, Timings, make_learner
from marl.learners.stacked_ppo import StackedLearners
from marl.segment import SegmentSpec, SegmentStore, rollout_size
from marl.settings import RunSettings
from marl.shaping import ShapingConfig
from marl.stacked import run_stacked
from marl.stacking import worthwhile
from marl.tasks import make_task
from marl.training import run_segment

SIZES = {
    "spread": ("spread", {}),
    "spread-32": ("spread", {"environments": 32}),
    "spread-16": ("spread", {"environments": 16}),
    "foraging": ("foraging", {}),
}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")


def run_of(size: str) -> RunSettings:
    """The settings of a size, with small evaluations."""
    task, learner = SIZES[size]
    return RunSettings.model_validate(
        {"task": task, "learner": learner, "evaluation": {"episodes": 64, "points": 2}}
    )


def specs_of(run: RunSettings, updates: int, seeds: range) -> list[SegmentSpec]:
    """A branch per seed."""
    steps = updates * rollout_size(run)
    return [
        SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=steps, seed=seed) for seed in seeds
    ]


def train(specs: list[SegmentSpec]) -> tuple[float, dict[str, float]]:
    """Seconds of this thread per branch, and wall seconds per branch by kind of work."""
    with tempfile.TemporaryDirectory() as folder:
        store, start = SegmentStore(Path(folder)), time.thread_time()
        results = run_stacked(specs, store) if len(specs) > 1 else [run_segment(specs[0], store)]
        seconds = (time.thread_time() - start) / len(specs)
    kinds = results[0].timings
    return seconds, {kind: statistics.fmean(result.timings[kind] for result in results) for kind in kinds}


def share_of_products(run: RunSettings, branches: int) -> float:
    """The matrix products' share of an update's time."""
    task = make_task(run.task, run.learner.environments)
    learners = [make_learner(task.spec, run.learner, seed) for seed in range(branches)]
    collectors = [Collector(task, run.learner, None) for _ in learners]
    rollouts = [
        collector.collect(learner.policy, learner.behaviour(0), 0, 0, np.random.default_rng(0), Timings())
        for learner, collector in zip(learners, collectors, strict=True)
    ]

    def update() -> None:
        draws = [np.random.default_rng(seed) for seed in range(branches)]
        if branches > 1:
            StackedLearners(learners).update(rollouts, draws)
        else:
            learners[0].update(rollouts[0], None, 0, draws[0])

    update()
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        update()
    spent = {entry.key: entry.self_cpu_time_total for entry in trace.key_averages()}
    return sum(spent.get(name, 0.0) for name in PRODUCTS) / sum(spent.values())


def measure(size: str, branches: list[int], updates: int, rounds: int) -> dict[str, object]:
    """Rates alone and stacked, the median ratio of rounds, milliseconds per branch and update by kind of work."""
    torch.set_num_threads(1)
    run, counts = run_of(size), [1, *branches]
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    kinds: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    train(specs_of(run, 1, range(2)))
    for turn in range(rounds):
        for count in counts if turn % 2 == 0 else counts[::-1]:
            spent, by_kind = train(specs_of(run, updates, range(count)))
            seconds[count].append(spent)
            kinds[count].append(by_kind)
    steps = updates * rollout_size(run)
    return {
        "size": size,
        "worthwhile": worthwhile(run.learner, make_task(run.task, 1).spec),
        "env_steps_per_second": {count: steps / statistics.median(seconds[count]) for count in counts},
        "ratio": {
            count: statistics.median(one / other for one, other in zip(seconds[1], seconds[count], strict=True))
            for count in branches
        },
        "milliseconds": {
            count: {kind: min(row[kind] for row in kinds[count]) / updates * 1e3 for kind in kinds[count][0]}
            for count in counts
        },
        "share_of_products": {count: share_of_products(run, count) for count in (1, branches[-1])},
    }


def _finish(specs: list[SegmentSpec], stacked: bool) -> None:
    """What one process does: its branches together, or one after the other."""
    torch.set_num_threads(1)
    for some in [specs] if stacked else [[spec] for spec in specs]:
        train(some)


def measure_processes(size: str, processes: int, updates: int, rounds: int) -> dict[str, float]:
    """Wall seconds of four branches per process: alone and stacked, on one process and on several."""
    run, spawn = run_of(size), multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {}
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        shares = [specs_of(run, updates, range(4 * k, 4 * k + 4)) for k in range(processes)]
        for turn in range(rounds + 1):
            for stacked in (False, True):
                for count in (1, processes):
                    start = time.perf_counter()
                    list(pool.map(_finish, shares[:count], [stacked] * count))
                    name = f"{'stacked' if stacked else 'alone'} on {count}"
                    if turn:  # the first warms up
                        seconds.setdefault(name, []).append((time.perf_counter() - start) / count)
    steps = 4 * updates * rollout_size(run)
    return {name: steps / statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, nargs="+", default=list(SIZES))
    parser.add_argument("--branches", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=0, help="also compare this many processes; 0: do not")
    parser.add_argument("--quick", action="store_true", help="two branches of the smallest size, one update, once")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.size, arguments.branches, arguments.updates, arguments.rounds = ["spread-16"], [2], 1, 1
    found = [measure(size, arguments.branches, arguments.updates, arguments.rounds) for size in arguments.size]
    if arguments.processes:
        for one in found:
            one["processes"] = measure_processes(
                one["size"], arguments.processes, arguments.updates, arguments.rounds
            )
    if arguments.json:
        print(json.dumps(found))
        return
    for one in found:
        print(f"{one['size']}: {'stacked' if one['worthwhile'] else 'alone'} by default")
        for count, rate in one["env_steps_per_second"].items():
            ratio = f"  {one['ratio'][count]:.2f} times as fast" if count > 1 else ""
            kinds = ", ".join(f"{kind} {value:.1f}" for kind, value in one["milliseconds"][count].items())
            print(f"  {count} together {rate:9,.0f} env steps/s per core{ratio}  (ms per branch and update: {kinds})")
        shares = " and ".join(f"{share:.0%} ({count})" for count, share in one["share_of_products"].items())
        print(f"  matrix products are {shares} of an update")
        for name, rate in one.get("processes", {}).items():
            print(f"  {name}: {rate:,.0f} env steps/s per process")


if __name__ == "__main__":
    main()

"""Worker processes: how much faster two finish a set of branches than one, and what handing a segment over
costs.

    python -m bench.workers [--branches 8] [--env-steps 60000] [--repeats 2] [--json]

Every repeat trains the same set of branches of spread (fresh seeds, so that nothing is stored already) with
one worker and with two, in turns, because a machine's speed drifts. Workers are started before the clock
is. Hand-over is the wall time of one worker beyond the seconds that the segments themselves report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from marl.pool import WorkerPool, available_cores
from marl.segment import SegmentSpec, round_up
from marl.settings import RunSettings
from marl.shaping import ShapingConfig, Term

SHAPING = ShapingConfig(terms=(Term(potential="coverage_distance", weight=-1.0, scope="team"),), beta=1.0)
TARGET = 1.8


def branch(env_steps: int, seed: int) -> SegmentSpec:
    """One branch from newly drawn weights."""
    run = RunSettings()
    return SegmentSpec(run=run, parent=None, shaping=SHAPING, env_steps=round_up(run, env_steps), seed=seed)


def finish(pool: WorkerPool, specs: list[SegmentSpec]) -> tuple[float, float]:
    """Wall seconds until every branch is finished, and the sum of the seconds the branches themselves
    report.
    """
    start = time.perf_counter()
    results = [future.result() for future in [pool.submit(spec) for spec in specs]]
    return time.perf_counter() - start, sum(result.wall_seconds for result in results)


def measure(branches: int, env_steps: int, repeats: int) -> dict[str, float | int]:
    """Medians over repeats; within each, one worker and two take turns."""
    with tempfile.TemporaryDirectory() as folder:
        with WorkerPool(Path(folder), 1) as one, WorkerPool(Path(folder), 2) as two:
            seeds = iter(range(10**6))
            for pool in (one, two):
                finish(pool, [branch(1, next(seeds)) for _ in range(4 * pool.worker_count)])  # warm up
            alone, together, inside = [], [], []
            for repeat in range(repeats):
                for pool in (one, two) if repeat % 2 == 0 else (two, one):
                    wall, reported = finish(pool, [branch(env_steps, next(seeds)) for _ in range(branches)])
                    (alone if pool is one else together).append(wall)
                    if pool is one:
                        inside.append(reported)
    ratios = [first / second for first, second in zip(alone, together, strict=True)]
    overhead = [(wall - reported) / branches for wall, reported in zip(alone, inside, strict=True)]
    return {
        "branches": branches,
        "env_steps_per_branch": branch(env_steps, 0).env_steps,
        "cores": available_cores(),
        "load_average": os.getloadavg()[0],
        "seconds_one_worker": statistics.median(alone),
        "seconds_two_workers": statistics.median(together),
        "ratio": statistics.median(ratios),
        "hand_over_milliseconds_per_segment": 1000 * statistics.median(overhead),
        "hand_over_share": statistics.median(overhead) * branches / statistics.median(alone),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--branches", type=int, default=8)
    parser.add_argument("--env-steps", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.branches, arguments.env_steps, arguments.repeats)
    if arguments.json:
        print(json.dumps(found))
        return
    steps = f"{found['env_steps_per_branch']:,}"
    print(f"{found['branches']} branches of {steps} env steps on {found['cores']} cores")
    print(f"one worker    {found['seconds_one_worker']:8.2f} s")
    print(f"two workers   {found['seconds_two_workers']:8.2f} s")
    print(
        f"ratio         {found['ratio']:8.2f}   (target {TARGET:g}; load average {found['load_average']:.1f})"
    )
    share, each = found["hand_over_share"], found["hand_over_milliseconds_per_segment"]
    print(f"hand-over     {each:8.1f} ms per segment ({share:.2%} of the wall)")


if __name__ == "__main__":
    main()

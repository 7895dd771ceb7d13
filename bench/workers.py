"""Worker processes: how much faster two finish a set of branches than one, and what handing a segment over
costs; and the same two on a Ray cluster.

    python -m bench.workers [--branches 8] [--env-steps 60000] [--repeats 2] [--ray] [--json]

Every repeat trains the same set of branches of spread (fresh seeds, so that nothing is stored already) with
one worker and with two, in turns, because a machine's speed drifts. Workers are started before timing
begins. Hand-over is the wall time of one worker beyond the seconds that the segments themselves report.

With --ray, two local processes and two workers of a Ray cluster of this machine train the same branches in
turns, each with a store of its own. Then a cluster of two nodes loses one while branches run: how many
segments it held, and how many were started more than once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from learning_signal.marl.executors.base import Executor, ExecutorSettings
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.executors.local import WorkerPool, available_cores
from learning_signal.marl.segments.segment import SegmentSpec, round_up
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term

SHAPING = ShapingConfig(terms=(Term(potential="coverage_distance", weight=-1.0, scope="team"),), beta=1.0)
TARGET = 1.9
RAY_TARGET = 1.1


def branch(env_steps: int, seed: int) -> SegmentSpec:
    """One branch from newly drawn weights."""
    run = RunSettings()
    return SegmentSpec(run=run, parent=None, shaping=SHAPING, env_steps=round_up(run, env_steps), seed=seed)


def finish(pool: Executor, specs: list[SegmentSpec]) -> tuple[float, float]:
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


def measure_ray(branches: int, env_steps: int, repeats: int) -> dict[str, float | int]:
    """Medians over repeats; within each, two local processes and two Ray workers take turns on the same branches."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder, "local"), Path(folder, "ray")
        ray_settings = ExecutorSettings(kind="ray")
        with WorkerPool(here, 2) as pool, open_executor(there, 2, settings=ray_settings) as cluster:
            seeds = iter(range(10**6))
            for executor in (pool, cluster):
                finish(executor, [branch(1, next(seeds)) for _ in range(8)])  # warm up
            local, ray = [], []
            for repeat in range(repeats):
                specs = [branch(env_steps, next(seeds)) for _ in range(branches)]
                for executor in (pool, cluster) if repeat % 2 == 0 else (cluster, pool):
                    (local if executor is pool else ray).append(finish(executor, specs)[0])
        return {
            "seconds_two_processes": statistics.median(local),
            "seconds_two_ray_workers": statistics.median(ray),
            "ray_ratio": statistics.median(theirs / ours for theirs, ours in zip(ray, local, strict=True)),
            **lose_a_node(Path(folder, "lost"), branches, env_steps),
        }


def lose_a_node(store: Path, branches: int, env_steps: int) -> dict[str, int]:
    """The cost of losing one of two nodes (one core each), killed when a third of the branches are done."""
    from ray.cluster_utils import Cluster

    from learning_signal.marl.executors.ray import RayExecutor

    store.mkdir()
    size = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    second = cluster.add_node(**size)
    noted = "bench.workers:noted_segment"
    try:
        with RayExecutor(store, address=cluster.address, share="folder", tasks=(noted,), runner=noted) as executor:
            specs = [branch(env_steps, 10**6 + seed) for seed in range(branches)]
            futures = [executor.submit(spec) for spec in specs]
            while sum(future.done() for future in futures) < branches / 3:
                time.sleep(0.1)
            time.sleep(1)  # now either node is in the middle of a segment
            cluster.remove_node(second, allow_graceful=False)
            for future in futures:
                future.result()
    finally:
        cluster.shutdown()
    starts = sum(path.read_text().count("\n") for path in store.glob("*.starts"))
    return {"held_by_the_lost_node": size["num_cpus"], "computed_again": starts - branches}


def noted_segment(spec, store, progress=None):
    """``run_segment``, with every start noted beside the store's segments."""
    from learning_signal.marl.segments.training import run_segment

    with (store.root / f"{spec.id}.starts").open("a") as starts:
        starts.write("started\n")
    return run_segment(spec, store, progress=progress)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=8)
    parser.add_argument("--env-steps", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this machine")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = (arguments.branches, arguments.env_steps, arguments.repeats)
    result = measure(*sizes)
    if arguments.ray:
        result |= measure_ray(*sizes)
    if arguments.json:
        print(json.dumps(result))
        return
    steps = f"{result['env_steps_per_branch']:,}"
    print(f"{result['branches']} branches of {steps} env steps on {result['cores']} cores")
    print(f"one worker    {result['seconds_one_worker']:8.2f} s")
    print(f"two workers   {result['seconds_two_workers']:8.2f} s")
    print(f"ratio         {result['ratio']:8.2f}   (target {TARGET:g}; load average {result['load_average']:.1f})")
    share, each = result["hand_over_share"], result["hand_over_milliseconds_per_segment"]
    print(f"hand-over     {each:8.1f} ms per segment ({share:.2%} of the wall)")
    if arguments.ray:
        ours, theirs = result["seconds_two_processes"], result["seconds_two_ray_workers"]
        print(f"local, Ray    {ours:8.2f} s and {theirs:.2f} s with two workers")
        print(f"Ray / local   {result['ray_ratio']:8.2f}   (target at most {RAY_TARGET:g})")
        held, again = result["held_by_the_lost_node"], result["computed_again"]
        print(f"a lost node   {again:8} segments computed again, {held} held")


if __name__ == "__main__":
    main()

"""Segments: what saving, loading, evaluating and everything besides training cost, and where a GPU pays.

python -m bench.segments [--env-steps 150000] [--repeats 20] [--json]
python -m bench.segments --devices [--task spread] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from bench.support import devices
from learning_signal.marl.learners import make_learner
from learning_signal.marl.segments.checkpoint import Position, load_checkpoint, save_checkpoint
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, round_up
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term
from learning_signal.marl.tasks import make_task

SHAPING = ShapingConfig(terms=(Term(potential="coverage_distance", weight=-1.0, scope="team"),), beta=1.0)


def checkpoint_seconds(folder: Path, repeats: int) -> dict[str, float]:
    """Median and largest seconds of saving and of loading a checkpoint of the default learner on spread."""
    run = RunSettings()
    learner = make_learner(make_task(run.task, 1).spec, run.learner, 0)
    path, saved, loaded = folder / "checkpoint.pt", [], []
    for _ in range(repeats):
        start = time.perf_counter()
        save_checkpoint(path, learner, Position(0, 0))
        middle = time.perf_counter()
        load_checkpoint(path, learner)
        saved.append(middle - start)
        loaded.append(time.perf_counter() - middle)
    return {
        "save": statistics.median(saved),
        "save_worst": max(saved),
        "load": statistics.median(loaded),
        "load_worst": max(loaded),
        "bytes": path.stat().st_size,
    }


def measure(env_steps: int, repeats: int) -> dict[str, float]:
    """Times of checkpoints and, of one shaped segment on spread, seconds by kind of work."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, store = RunSettings(), SegmentStore(folder / "segments")
        steps = round_up(run, env_steps)
        spec = SegmentSpec(run=run, parent=None, shaping=SHAPING, env_steps=steps, seed=0)
        result = run_segment(spec, store)
        start = time.perf_counter()
        run_segment(spec, store)
        reused = time.perf_counter() - start
        times = checkpoint_seconds(folder, repeats)
    return times | result.timings | {"env_steps": steps, "wall": result.wall_seconds, "reused": reused}


def show_devices(task: str, quick: bool, as_json: bool) -> None:
    """Print how fast a segment is on the CPU, with one thread, and on a GPU."""
    torch.set_num_threads(1)
    rows = devices.measured(task, devices.QUICK if quick else devices.SIZES)
    if as_json:
        print(json.dumps(rows))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    Console(width=100).print(f"torch {torch.__version__}, {name}", devices.table(rows), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-steps", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--devices", action="store_true", help="the same segments on the CPU and on a GPU instead")
    parser.add_argument("--task", default="spread", help="their task (default spread)")
    parser.add_argument("--quick", action="store_true", help="one row of tiny ones")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if arguments.devices:
        show_devices(arguments.task, arguments.quick, arguments.json)
        return
    result = measure(arguments.env_steps, arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"checkpoint ({result['bytes'] / 1e3:.0f} kB), median (worst) of {arguments.repeats}")
    for kind in ("save", "load"):
        print(f"  {kind} {result[kind] * 1e3:.2f} ms ({result[kind + '_worst'] * 1e3:.2f} ms)")
    rate = result["env_steps"] / result["wall"]
    print(f"segment of {result['env_steps']:,} env steps: {result['wall']:.2f} s, {rate:,.0f} env steps/s")
    for kind in ("environment", "policy", "shaping", "update", "evaluation", "rest"):
        print(f"  {kind:12} {result[kind] * 1e3:8.1f} ms {result[kind] / result['wall']:6.1%}")
    print(f"the same segment once more: {result['reused'] * 1e3:.1f} ms")


if __name__ == "__main__":
    main()

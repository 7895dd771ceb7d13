"""Memory: peak resident memory of a process that trains, on every shipped task.

    python -m bench.memory [--tasks TASK ...] [--algorithms mappo qmix] [--quick] [--json]

Each row is a fresh process that trains one segment with the default settings of the task, evaluates and stores it; then
it reads its own high-water mark (VmHWM of /proc/self/status, so Linux alone). Learners with a replay train until it is
full.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
TARGET = 600
"""Megabytes that no task may exceed."""
UPDATES = 3


def peak_megabytes() -> float:
    """The largest resident memory of this process so far, in 10^6 bytes."""
    kibibytes = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kibibytes[1]) * 1024 / 1e6


def train(task: str, algorithm: str) -> dict[str, Any]:
    """Train one segment in this process; peaks before and after it."""
    from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, rollout_size
    from learning_signal.marl.segments.training import run_segment
    from learning_signal.marl.settings import RunSettings
    from learning_signal.marl.shaping import ShapingConfig

    imported = peak_megabytes()
    run = RunSettings.model_validate({"task": task, "learner": {"algorithm": algorithm}})
    size, updates = rollout_size(run), UPDATES
    if run.learner.learns_values:
        updates = max(updates, run.learner.q_learning.replay_env_steps // size + 1)
    spec = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=updates * size, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run_segment(spec, SegmentStore(Path(folder)))
    return {
        "task": task,
        "algorithm": algorithm,
        "memory": run.learner.memory,
        "environments": run.learner.environments,
        "env_steps": spec.env_steps,
        "imported_megabytes": imported,
        "megabytes": peak_megabytes(),
    }


def measure(task: str, algorithm: str) -> dict[str, Any]:
    """The same in a fresh process; raises ``RuntimeError`` with its error if it does not finish."""
    command = [sys.executable, "-m", "bench.memory", "--here", "--tasks", task, "--algorithms", algorithm]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{algorithm} on {task} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    row = json.loads(done.stdout)
    return row | {"target": TARGET, "met": row["megabytes"] < TARGET}


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows as a user reads them."""
    imported = max(row["imported_megabytes"] for row in rows)
    shown = Table(
        title=f"peak memory of a training process (target: below {TARGET} MB)",
        title_justify="left",
        box=None,
        caption=f"of it {imported:.0f} MB with everything imported and nothing made",
        caption_justify="left",
    )
    shown.add_column("task", no_wrap=True)
    for name in ("learner", "envs", "env steps", "peak"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        learner = row["algorithm"] + (" (GRU)" if row["memory"] == "gru" else "")
        words = f"{row['megabytes']:.0f} MB" + ("" if row["met"] else " NOT MET")
        peak = Text(words, style="green" if row["met"] else "red")
        shown.add_row(row["task"], learner, str(row["environments"]), f"{row['env_steps']:,}", peak)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--algorithms", nargs="+", default=["mappo", "qmix"], choices=["mappo", "ippo", "qmix", "vdn"])
    parser.add_argument("--quick", action="store_true", help="mappo on the first of the tasks alone")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the fresh process
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(train(arguments.tasks[0], arguments.algorithms[0])))
        return
    pairs = [(task, algorithm) for task in arguments.tasks for algorithm in arguments.algorithms]
    rows = []
    with Console(stderr=True).status("training") as status:
        for task, algorithm in pairs[:1] if arguments.quick else pairs:
            status.update(f"training {algorithm} on {task}")
            rows.append(measure(task, algorithm))
    if arguments.json:
        print(json.dumps(rows))
        return
    Console().print(table(rows))


if __name__ == "__main__":
    main()

"""Memory: peak resident memory of a process that trains, on every shipped task; that of a session, round by round.

    python -m bench.memory [--tasks TASK ...] [--algorithms mappo qmix] [--quick] [--json]
    python -m bench.memory --rounds 200 [--json]

Each row is a fresh process that trains one segment with the default settings of the task, evaluates and stores it; then
it reads its own high-water mark (VmHWM of /proc/self/status, so Linux alone). Learners with a replay train until it is
full.

With ``--rounds`` the rows are of the main process of one session of the smallest networks with its agents (``rules``),
its ledger and one worker process: what is resident at the decision of a round. The growth is the slope of a straight
line through the second half of the rounds, once caches are full.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
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
GROWTH = 0.1
"""Megabytes per round that a session may grow by."""


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


def resident_megabytes() -> float:
    """The resident memory of this process now, in 10^6 bytes."""
    kibibytes = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kibibytes[1]) * 1024 / 1e6


class _ByRound:
    """An observer of a session that notes what is resident at each decision."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._say = say

    def event(self, row: dict[str, Any]) -> None:
        if row["kind"] == "decision" and row["status"] == "ok":
            self.rows.append({"round": row["round"], "megabytes": resident_megabytes()})
            self._say(f"round {row['round']}: {self.rows[-1]['megabytes']:.1f} MB")

    def progress(self, *position: Any) -> None: ...

    def stage(self, info: dict[str, Any]) -> None: ...


def session_by_round(rounds: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Resident memory of this process at every decision of a session of the smallest networks."""
    from learning_signal.agents.session.session import run_session
    from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
    from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings
    from learning_signal.tools.roles import ROLES

    learner = LearnerSettings(hidden=(8,), environments=8, epochs=1, minibatches=1)
    with tempfile.TemporaryDirectory() as folder:
        settings = SessionSettings(
            run=RunSettings(learner=learner, evaluation=EvaluationSettings(points=2)),
            agents=dict.fromkeys(ROLES, "rules"),
            agent_sources=dict.fromkeys(ROLES, "default"),
            deliberation=DeliberationSettings(candidates=2, refinements=0),
            gate={"family_alpha": None},
            rounds=rounds,
            stage_steps=600,
            branch_steps=400,
            workers=1,
            store=Path(folder) / "segments",
            ledger=Path(folder) / "ledger.db",
        )
        observer = _ByRound(say)
        asyncio.run(run_session(settings, observer=observer))
    return observer.rows


def growth(rows: list[dict[str, Any]]) -> float:
    """Megabytes per round, of the second half: the slope of the least squares."""
    half = [(row["round"], row["megabytes"]) for row in rows[len(rows) // 2 :]]
    mean_x, mean_y = (sum(each) / len(half) for each in zip(*half, strict=True))
    squares = sum((x - mean_x) ** 2 for x, _ in half)
    return sum((x - mean_x) * (y - mean_y) for x, y in half) / squares


def rounds_table(rows: list[dict[str, Any]]) -> Table:
    """About ten rounds as a user reads them, and how much the second half grows."""
    slope = growth(rows)
    shown = Table(
        title=f"resident memory of a session's main process (target: below {GROWTH} MB per round)",
        title_justify="left",
        min_width=80,
        box=None,
        caption=f"second half: {slope:+.3f} MB per round" + ("" if slope < GROWTH else " NOT MET"),
        caption_justify="left",
    )
    shown.add_column("round", justify="right")
    shown.add_column("resident", justify="right")
    step = max(1, len(rows) // 10)
    for row in [*rows[: len(rows) - 1 : step], rows[-1]]:
        shown.add_row(str(row["round"]), f"{row['megabytes']:.1f} MB")
    return shown


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
    parser.add_argument("--rounds", type=int, metavar="N", help="a session of so many rounds (at least 4) instead")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the fresh process
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(train(arguments.tasks[0], arguments.algorithms[0])))
        return
    if arguments.rounds is not None:
        if arguments.rounds < 4:
            parser.error(f"found --rounds {arguments.rounds}, expected at least 4: a slope needs two points")
        with Console(stderr=True).status("training") as status:
            by_round = session_by_round(arguments.rounds, status.update)
        print(json.dumps(by_round)) if arguments.json else Console().print(rounds_table(by_round))
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

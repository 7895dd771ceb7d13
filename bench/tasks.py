"""Stepping speed: env steps per second of every batched task, and of the package that it re-implements.

    python -m bench.tasks [--environments 512 64 2048] [--tasks spread ...] [--quick] [--json]

Random actions, per second of one core (CPU time of this process, all its threads). The reference package has one
environment, which is how it is used; ours has many at once. Both include restarting what has ended. They take turns of
a few tenths of a second, because a machine's speed drifts; rates are medians over the turns, a ratio is the median of
the ratios of neighbouring turns.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task

TARGETS = {
    "spread": (300_000, 40),
    "Foraging-8x8-2p-2f-coop-v3": (200_000, 20),
    "Foraging-15x15-3p-4f-v3": (120_000, 12),
    "rware-tiny-2ag-easy-v2": (100_000, 25),
    "overcooked?layout=cramped_room": (100_000, None),
    "overcooked?layout=asymmetric_advantages": (100_000, None),
}
"""Env steps per second at 512 environments, and times the reference package, that are to be reached."""
TASKS = (
    "spread",
    "pursuit",
    "Foraging-8x8-2p-2f-coop-v3",
    "Foraging-2s-8x8-2p-2f-coop-v3",
    "Foraging-10x10-3p-3f-v3",
    "Foraging-15x15-3p-4f-v3",
    "rware-tiny-2ag-easy-v2",
    "rware-tiny-2ag-v2",
    "overcooked?layout=cramped_room",
    "overcooked?layout=asymmetric_advantages",
)
PEER = {"spread": "mpe2", "pursuit": "mpe2", "Foraging": "lbforaging", "rware": "rware"}
"""The reference package by the beginning of a task's name. That of overcooked cannot be installed beside the others."""
TARGET_ENVIRONMENTS = 512


class Reference:
    """One environment of the reference package behind one pair of functions, without Gymnasium's wrappers."""

    def __init__(self, task: str) -> None:
        """``task`` is one of ``TASKS`` with a `peer_of`."""
        if task == "spread":
            from mpe2 import simple_spread_v3

            self.env = simple_spread_v3.parallel_env(N=3, local_ratio=0.5, max_cycles=25, continuous_actions=False)
        elif task == "pursuit":
            from mpe2 import simple_tag_v3

            self.env = simple_tag_v3.parallel_env(
                num_good=1, num_adversaries=3, num_obstacles=2, max_cycles=25, continuous_actions=False
            )
        else:
            import gymnasium

            importlib.import_module(PEER[task.partition("-")[0]])  # registers its ids
            self.env = gymnasium.make(task, disable_env_checker=True).unwrapped
        self.names: Sequence[str] | None = getattr(self.env, "possible_agents", None)
        """Of a PettingZoo environment; Gymnasium's has none."""
        space = self.env.action_space(self.names[0]) if self.names else self.env.action_space[0]
        self.agents, self.actions = len(self.names or self.env.action_space), int(space.n)
        self.reset()

    def reset(self) -> list[np.ndarray]:
        """Start an episode; the observation of every agent."""
        observations, _ = self.env.reset()
        return list(observations.values()) if self.names else list(observations)

    def step(self, actions: Sequence[int]) -> tuple[list[np.ndarray], float, bool]:
        """Observations, summed reward, and whether the episode has ended."""
        if self.names:
            observations, rewards, _, _, _ = self.env.step(dict(zip(self.names, actions, strict=True)))
            return list(observations.values()), sum(rewards.values()), not self.env.agents
        observations, rewards, terminated, truncated, _ = self.env.step(actions)
        return list(observations), sum(rewards), terminated or truncated


def peer_of(task: str) -> str | None:
    """The reference package of a task; None where none can be stepped here."""
    return PEER.get(task.partition("-")[0])


def batched(name: str, environments: int) -> Callable[[float], tuple[int, float]]:
    """Steps our task for about so many seconds; returns env steps and seconds."""
    task = make_task(name, environments)
    horizon, shape = task.spec.horizon, (environments, task.spec.agents)
    actions = np.random.default_rng(0).integers(0, task.spec.actions, (horizon, *shape))
    starts = iter(range(0, 10**12, environments))
    task.reset(episode_seeds(0, next(starts), environments))

    def play(seconds: float) -> tuple[int, float]:
        steps, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            _, _, terminated, truncated, _ = task.step(actions[steps % horizon])
            ended = terminated | truncated
            if ended.any():
                task.reset(episode_seeds(0, next(starts), environments), ended)
            steps += 1
        return steps * environments, time.process_time() - start

    return play


def alone(name: str) -> Callable[[float], tuple[int, float]]:
    """The same of the reference package's environment."""
    reference = Reference(name)
    actions = np.random.default_rng(0).integers(0, reference.actions, (1000, reference.agents)).tolist()

    def play(seconds: float) -> tuple[int, float]:
        steps, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            if reference.step(actions[steps % len(actions)])[2]:
                reference.reset()
            steps += 1
        return steps, time.process_time() - start

    return play


def measure(name: str, sizes: Sequence[int], seconds: float, turns: int) -> list[dict[str, Any]]:
    """One row per batch size: medians over ``turns`` of ``seconds`` each, taken by all sizes and the reference."""
    peer = peer_of(name)
    players = [*([alone(name)] if peer else []), *(batched(name, size) for size in sizes)]
    for play in players:
        play(seconds / 4)  # warm up
    turned = [[steps / elapsed for steps, elapsed in (play(seconds) for play in players)] for _ in range(turns)]
    rows = []
    for column, size in enumerate(sizes, start=len(players) - len(sizes)):
        ratio = statistics.median(rates[column] / rates[0] for rates in turned) if peer else None
        rate = statistics.median(rates[column] for rates in turned)
        target, target_ratio = TARGETS.get(name, (None, None)) if size == TARGET_ENVIRONMENTS else (None, None)
        rows.append(
            {
                "task": name,
                "environments": size,
                "env_steps_per_second": rate,
                "peer": peer,
                "peer_env_steps_per_second": statistics.median(rates[0] for rates in turned) if peer else None,
                "ratio": ratio,
                "target": target,
                "target_ratio": target_ratio,
                "met": None
                if target is None
                else rate >= target and (ratio is None or target_ratio is None or ratio >= target_ratio),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows of one batch size as a user reads them."""
    shown = Table(
        title=f"{rows[0]['environments']} environments, random actions, one core: env steps/s",
        caption="reference: one environment of mpe2, lbforaging or rware",
        title_justify="left",
        caption_justify="left",
        box=None,
    )
    shown.add_column("task", no_wrap=True)
    for name in ("ours", "reference", "ratio", "targets"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        met = Text("-", style="dim")
        if row["met"] is not None:
            times = "" if row["target_ratio"] is None else f", {row['target_ratio']}x"
            words = f"{row['target'] // 1000} k{times}: {'met' if row['met'] else 'NOT MET'}"
            met = Text(words, style="green" if row["met"] else "red")
        shown.add_row(
            row["task"],
            f"{row['env_steps_per_second']:,.0f}",
            "-" if row["peer"] is None else f"{row['peer_env_steps_per_second']:,.0f}",
            "-" if row["peer"] is None else f"{row['ratio']:.0f}x",
            met,
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=int, nargs="+", default=[TARGET_ENVIRONMENTS], help="sizes of a batch")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--quick", action="store_true", help="three turns of a twentieth of a second")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    arguments = parser.parse_args()
    seconds, turns = (0.05, 3) if arguments.quick else (0.3, 7)
    rows: list[dict[str, Any]] = []
    with Console(stderr=True).status("stepping") as status:
        for name in arguments.tasks:
            status.update(f"stepping {name}")
            rows += measure(name, arguments.environments, seconds, turns)
    if arguments.json:
        print(json.dumps(rows))
        return
    for size in arguments.environments:
        Console().print(table([row for row in rows if row["environments"] == size]))


if __name__ == "__main__":
    main()

"""Training speed: our MAPPO against a straightforward loop over the reference environments, on the same settings.

    python -m bench.reference_loop [--updates 5] [--tasks spread ...] [--general] [--quick] [--json]

The loop is what one would first write in plain torch: a list of reference environments stepped one by one, one forward
pass for all of them per step, ``Categorical``, autograd, ``torch.optim.Adam`` (``PlainMappo`` of ``bench.training``).
One forward pass per environment would be slower still. Networks, environments, steps of a rollout, epochs and
minibatches are the same on both sides: those of our settings for the task's family or, with ``--general``, those of a
task without a family. One thread; the two take turns, because a machine's speed drifts. Seconds are CPU time of this
process; the medians over updates are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.tasks import Reference, peer_of
from bench.training import PlainMappo
from learning_signal.marl.learners import Collector, Rollout, Timings, make_learner
from learning_signal.marl.settings import LearnerSettings, RunSettings
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import TaskSpec

TARGETS = {"spread": 20, "Foraging-8x8-2p-2f-coop-v3": 10}
"""Times the loop's env steps per second that are to be reached."""
KINDS = ("environment", "policy", "update")
OURS_PER_TURN = 4
"""Our updates for one of the loop's, which takes many times as long."""


class ReferenceLoop:
    """A list of environments, the networks that act in them, and the seconds that went where."""

    def __init__(self, task: str, spec: TaskSpec, settings: LearnerSettings) -> None:
        self.spec, self.settings = spec, settings
        self.plain = PlainMappo(make_learner(spec, settings, 0), settings)
        self.environments = [Reference(task) for _ in range(settings.environments)]
        self.observations = [environment.reset() for environment in self.environments]
        self.steps = settings.rollout_steps or spec.horizon

    def train(self) -> dict[str, float]:
        """One rollout and one update; seconds by kind of work."""
        seconds = dict.fromkeys(KINDS, 0.0)
        rollout = self._collect(seconds)
        start = time.process_time()
        self.plain.update(rollout)
        seconds["update"] = time.process_time() - start
        return seconds

    def _collect(self, seconds: dict[str, float]) -> Rollout:
        steps, environments, agents = self.steps, len(self.environments), self.spec.agents
        inputs, actions = [self._inputs()], []
        rewards, ended = np.zeros((steps, environments), np.float32), np.zeros((steps, environments), bool)
        for t in range(steps):
            start = time.process_time()
            with torch.no_grad():
                logits = self.plain.actor(inputs[-1].flatten(0, 1))
                drawn = torch.distributions.Categorical(logits=logits).sample().view(environments, agents)
            actions.append(drawn)
            choices = drawn.tolist()
            acted = time.process_time()
            for index, environment in enumerate(self.environments):
                self.observations[index], rewards[t, index], ended[t, index] = environment.step(choices[index])
                if ended[t, index]:
                    self.observations[index] = environment.reset()
            stepped = time.process_time()
            inputs.append(self._inputs())
            seconds["environment"] += stepped - acted
            seconds["policy"] += acted - start + time.process_time() - stepped
        seen = torch.stack(inputs)
        # Only the time is of interest: the critic is given as many numbers as ours, whatever they are.
        states = seen[..., : self.spec.observation_size].flatten(2)[..., : self.spec.state_size]
        return Rollout(
            inputs=(seen,),
            states=states.contiguous(),
            outputs=(),
            actions=torch.stack(actions),
            sparse_rewards=rewards,
            progress=None,
            terminated=np.zeros_like(ended),
            truncated=ended,
            alive=None,
            allowed=None,
            rewards=torch.from_numpy(rewards)[:, :, None].repeat(1, 1, agents),
        )

    def _inputs(self) -> torch.Tensor:
        """Observations and agent identities ``[E, A, O + A]``."""
        observations = torch.from_numpy(np.array(self.observations, np.float32))
        identities = torch.eye(self.spec.agents).expand(len(observations), -1, -1)
        return torch.cat([observations, identities], dim=2)


def measure(task: str, settings: LearnerSettings, updates: int, ours_per_turn: int) -> dict[str, Any]:
    """Median CPU seconds per update of each kind of work on both sides, rates and their ratio."""
    torch.set_num_threads(1)
    batch = make_task(task, settings.environments)
    learner, collector = make_learner(batch.spec, settings, 0), Collector(batch, settings, None)
    loop = ReferenceLoop(task, batch.spec, settings)
    ours, theirs, position = [], [], 0
    for turn in range(updates + 1):
        for _ in range(ours_per_turn):
            seconds, draws = dict.fromkeys(KINDS, 0.0), np.random.default_rng(position)
            timings, start = Timings(), time.process_time()
            choose = learner.behaviour(position)
            rollout = collector.collect(learner.policy, choose, position, position, draws, timings)
            collected = time.process_time()
            learner.update(rollout, draws)
            seconds["update"] = time.process_time() - collected
            # The collector's clock is the wall's: it gives the shares, CPU time their sum.
            share = timings.environment / (timings.environment + timings.policy)
            seconds["environment"] = share * (collected - start)
            seconds["policy"] = (1 - share) * (collected - start)
            position += collector.size
            if turn:
                ours.append(seconds)
        seconds = loop.train()
        if turn:  # the first is a warm-up
            theirs.append(seconds)
    sides = {"ours": ours, "loop": theirs}
    result: dict[str, Any] = {
        f"{side}_{kind}": statistics.median(row[kind] for row in rows) for side, rows in sides.items() for kind in KINDS
    }
    for side, rows in sides.items():
        result[f"{side}_all"] = statistics.median(sum(row.values()) for row in rows)
        result[f"{side}_env_steps_per_second"] = collector.size / result[f"{side}_all"]
    ratio = result["loop_all"] / result["ours_all"]
    return result | {
        "task": task,
        "peer": peer_of(task),
        "environments": settings.environments,
        "steps": collector.steps,
        "hidden": settings.hidden,
        "epochs": settings.epochs,
        "minibatches": settings.minibatches,
        "updates": updates,
        "ratio": ratio,
        "target": TARGETS[task],
        "met": ratio >= TARGETS[task],
    }


def table(result: dict[str, Any]) -> Table:
    """One task as a user reads it."""
    layers = "-".join(str(units) for units in result["hidden"])
    shown = Table(
        title=f"MAPPO on {result['task']}, one thread: {result['environments']} environments x {result['steps']} "
        f"steps, {layers} tanh, {result['epochs']} epochs of {result['minibatches']} minibatches",
        title_justify="left",
        box=None,
    )
    for name in ("", "ours", f"loop over {result['peer']}", "ratio"):
        shown.add_column(name, justify="right" if name else "left")
    for kind in (*KINDS, "all"):
        ours, theirs = result[f"ours_{kind}"], result[f"loop_{kind}"]
        shown.add_row(kind, f"{ours * 1e3:.1f} ms", f"{theirs * 1e3:.1f} ms", f"{theirs / ours:.1f}x")
    rates = (f"{result[f'{side}_env_steps_per_second']:,.0f}" for side in ("ours", "loop"))
    met = "met" if result["met"] else "NOT MET"
    shown.add_row("env steps/s", *rates, f"{result['ratio']:.1f}x (target {result['target']}x: {met})", style="bold")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=5, help="updates of the loop; ours makes four for each")
    parser.add_argument("--tasks", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TASK")
    parser.add_argument("--general", action="store_true", help="general settings, not those of the task's family")
    parser.add_argument("--quick", action="store_true", help="one update")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    arguments = parser.parse_args()
    results = []
    with Console(stderr=True).status("training") as status:
        for task in arguments.tasks:
            status.update(f"training on {task}")
            settings = LearnerSettings() if arguments.general else RunSettings(task=task).learner
            sizes = (1, 1) if arguments.quick else (arguments.updates, OURS_PER_TURN)
            results.append(measure(task, settings, *sizes))
    if arguments.json:
        print(json.dumps(results))
        return
    for result in results:
        Console().print(table(result))


if __name__ == "__main__":
    main()

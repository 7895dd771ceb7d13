"""Training speed: env steps per second of MAPPO, where the time goes, and the share of the matmul rate.

    python -m bench.training [--task spread] [--updates 40] [--algorithm mappo] [--terms 1] [--json]

One thread. `spread`: 3 agents, 64-64 tanh, 128 environments x 25 steps, 4 epochs of 4 minibatches; another task has the
settings of its family and no shaping. A plain torch implementation
of the same algorithm (modules, autograd, ``Categorical``, ``torch.optim.Adam``) runs on the same rollouts, in turns
with ours, because a machine's speed drifts. The medians over updates are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.learners import Collector, Rollout, Timings, make_learner
from learning_signal.marl.learners.objectives import generalised_advantages
from learning_signal.marl.learners.ppo import PolicyGradientLearner
from learning_signal.marl.settings import LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term, check
from learning_signal.marl.tasks import make_task

TERMS = (
    Term(potential="coverage_distance", weight=-1.0, scope="team"),
    Term(potential="nearest_landmark_distance", weight=-2.0, scope="agent"),
    Term(potential="exp(-coverage_distance / 0.4)", weight=3.0, scope="team"),
)
"""The first alone by default; with --terms 3 the kind of shaping a session ends with."""


def matmul_rate() -> float:
    """Floating-point operations per second of 512 x 512 float32 products, the best of several runs."""
    a, b, out = torch.randn(512, 512), torch.randn(512, 512), torch.empty(512, 512)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b, out=out)
        best = min(best, (time.perf_counter() - start) / 10)
    return 2 * 512**3 / best


class PlainMappo:
    """The same algorithm as one would first write it, reading the rollouts of ours. Only its time is of interest."""

    def __init__(self, learner: PolicyGradientLearner, settings: LearnerSettings) -> None:
        self.settings = settings
        self.actor, self.critic = (
            _plain_network(part.network.inputs, settings.hidden, part.network.outputs) for part in learner.parts
        )
        rate = settings.learning_rate
        self.optimisers = [torch.optim.Adam(one.parameters(), lr=rate, eps=1e-5) for one in (self.actor, self.critic)]

    def act(self, rollout: Rollout) -> None:
        """Choose the actions of every step once more, as a rollout would."""
        with torch.no_grad():
            for t in range(len(rollout.actions)):
                logits = self.actor(rollout.inputs[0][t].flatten(0, 1))
                distribution = torch.distributions.Categorical(logits=logits)
                distribution.log_prob(distribution.sample())

    def update(self, rollout: Rollout) -> None:
        """Epochs of minibatch steps; values are not normalised, which saves this side a little work."""
        settings = self.settings
        steps, environments, agents = rollout.rewards.shape
        samples = steps * environments
        terminated = torch.from_numpy(rollout.terminated)
        ended = terminated | torch.from_numpy(rollout.truncated)
        actions = rollout.actions.view(samples, agents)
        inputs = rollout.inputs[0][:-1].flatten(0, 1)
        # MAPPO: one state per row; IPPO: one input per agent of the row.
        seen = rollout.states if settings.algorithm == "mappo" else rollout.inputs[0]
        states = seen[:-1].flatten(0, 1)
        with torch.no_grad():
            values = self.critic(seen).view(steps + 1, environments, agents)
            old = torch.distributions.Categorical(logits=self.actor(inputs)).log_prob(actions)
        advantages = generalised_advantages(
            rollout.rewards, values[:-1], values[1:], terminated, ended, settings.discount, settings.gae_lambda
        )
        returns = (advantages + values[:-1]).view(samples, agents)
        old_values = values[:-1].reshape(samples, agents)
        advantages = advantages.view(samples, agents)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        for _ in range(settings.epochs):
            for index in torch.randperm(samples).chunk(settings.minibatches):
                distribution = torch.distributions.Categorical(logits=self.actor(inputs[index]))
                ratio = (distribution.log_prob(actions[index]) - old[index]).exp()
                gain = advantages[index]
                clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
                objective = torch.minimum(ratio * gain, clipped * gain).mean()
                self._descend(0, -objective - settings.entropy * distribution.entropy().mean())
                values = self.critic(states[index]).view(-1, agents)
                near = old_values[index] + (values - old_values[index]).clamp(-settings.clip, settings.clip)
                error = torch.maximum((values - returns[index]) ** 2, (near - returns[index]) ** 2)
                self._descend(1, error.mean() / 2)

    def _descend(self, which: int, loss: Tensor) -> None:
        network, optimiser = (self.actor, self.critic)[which], self.optimisers[which]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.settings.max_gradient_norm)
        optimiser.step()


def _plain_network(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    sizes, layers = (inputs, *hidden), []
    for i in range(len(hidden)):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def update_flops(learner: PolicyGradientLearner, settings: LearnerSettings, samples: int, agents: int) -> int:
    """Matrix-product operations of one update's gradient steps (2 per multiply-add), predictions of values left out."""
    critic_rows = samples if settings.algorithm == "mappo" else samples * agents
    actor, critic = (part.network for part in learner.parts)
    return settings.epochs * (actor.flops(samples * agents, backward=True) + critic.flops(critic_rows, backward=True))


def settings_of(task: str, algorithm: str) -> LearnerSettings:
    """Those of the task's family, without memory, which the plain implementation has not."""
    if task == "spread":
        return LearnerSettings(algorithm=algorithm, environments=128, hidden=(64, 64), epochs=4, minibatches=4)
    learner = {"algorithm": algorithm, "memory": "none"}
    return RunSettings.model_validate({"task": task, "learner": learner}).learner


def measure(updates: int, task_name: str, settings: LearnerSettings, shaping: ShapingConfig) -> dict[str, float]:
    """Median seconds per update of each kind of work, of the plain implementation, and rates derived from them."""
    torch.set_num_threads(1)
    task = make_task(task_name, settings.environments)
    learner = make_learner(task.spec, settings, seed=0)
    collector = Collector(task, settings, None if shaping.is_none else check(shaping, task.spec))
    plain = PlainMappo(learner, settings)
    rates, rows = [], []
    for update in range(updates + 3):
        timings, draws = Timings(), np.random.default_rng(update)
        start = time.perf_counter()
        position = update * collector.size
        rollout = collector.collect(learner.policy, learner.behaviour(position), position, update, draws, timings)
        collected = time.perf_counter()
        learner.update(rollout, draws)
        updated = time.perf_counter()
        plain.act(rollout)
        acted = time.perf_counter()
        plain.update(rollout)
        row = asdict(timings) | {
            "update": updated - collected,
            "all": updated - start,
            "plain_policy": acted - updated,
            "plain_update": time.perf_counter() - acted,
        }
        row["rest"] = row["all"] - sum(row[kind] for kind in ("environment", "policy", "shaping", "update"))
        row["plain_all"] = row["all"] - row["policy"] - row["update"] + row["plain_policy"] + row["plain_update"]
        rows.append(row)
        rates.append(matmul_rate() if update % 10 == 0 else 0.0)
    result = {name: statistics.median(row[name] for row in rows[3:]) for name in rows[0]}
    flops = update_flops(learner, settings, collector.size, task.spec.agents)
    peak = max(rates)
    rollout_seconds = result["environment"] + result["policy"] + result["shaping"]
    return result | {
        "env_steps_per_second": collector.size / result["all"],
        "plain_env_steps_per_second": collector.size / result["plain_all"],
        "matmul_gflops": peak / 1e9,
        "update_gflops": flops / result["update"] / 1e9,
        "share_of_matmul_rate": flops / result["update"] / peak,
        "shaping_share_of_rollout": result["shaping"] / rollout_seconds,
        "shaping_share_of_all": result["shaping"] / result["all"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="spread")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--algorithm", choices=["mappo", "ippo"], default="mappo")
    parser.add_argument("--terms", type=int, choices=range(len(TERMS) + 1), default=1, help="terms of the shaping")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    spread = arguments.task == "spread"
    shaping = ShapingConfig(terms=TERMS[: arguments.terms], beta=1.0) if spread else ShapingConfig.none()
    settings = settings_of(arguments.task, arguments.algorithm)
    result = measure(arguments.updates, arguments.task, settings, shaping)
    if arguments.json:
        print(json.dumps(result))
        return
    layers = "-".join(str(units) for units in settings.hidden)
    print(f"{arguments.algorithm} on {arguments.task}, one thread, {layers} tanh, {settings.epochs} epochs x ", end="")
    words = shaping_text(shaping.canonical())
    print(f"{settings.minibatches} minibatches, {words}, median of {arguments.updates} updates")
    print(f"  {result['env_steps_per_second']:,.0f} env steps/s", end="")
    print(f"  (plain torch {result['plain_env_steps_per_second']:,.0f}: ", end="")
    print(f"{result['env_steps_per_second'] / result['plain_env_steps_per_second']:.2f} times as fast)")
    for kind in ("environment", "policy", "shaping", "update", "rest"):
        plain = f"   plain {result['plain_' + kind] * 1e3:7.2f} ms" if kind in ("policy", "update") else ""
        print(f"  {kind:12} {result[kind] * 1e3:7.2f} ms {result[kind] / result['all']:6.1%}{plain}")
    of_rollout, of_all = result["shaping_share_of_rollout"], result["shaping_share_of_all"]
    print(f"  shaping is {of_rollout:.1%} of the rollout's time, {of_all:.1%} of all")
    print(
        f"  networks in the update: {result['update_gflops']:.1f} GFLOP/s, {result['share_of_matmul_rate']:.0%} of the "
        f"{result['matmul_gflops']:.1f} GFLOP/s of 512 x 512 products"
    )


if __name__ == "__main__":
    main()

"""What tests of learners share: a rollout, and a short training run, of a learner on a sanity task."""

from __future__ import annotations

import numpy as np
import torch

from learning_signal.marl.learners import Collector, Rollout, Timings, make_learner
from learning_signal.marl.learners.distributions import LOG_DEVIATION
from learning_signal.marl.learners.ppo import PolicyGradientLearner
from learning_signal.marl.randomness import derive
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.shaping import ShapingConfig, check
from learning_signal.marl.tasks.base import Task

DOUBLE = torch.float64
SETTINGS = LearnerSettings(environments=32, hidden=(32, 32), learning_rate=6e-3, entropy=0.1, minibatches=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torch_distribution(kind: str, outputs: torch.Tensor) -> torch.distributions.Distribution:
    """torch's own ``"categorical"`` or ``"gaussian"`` distribution for ``outputs [outputs, rows]``, one per row."""
    if kind == "categorical":
        return torch.distributions.Categorical(logits=outputs.t())
    means, log_deviations = outputs.chunk(2)
    low, start, high = LOG_DEVIATION
    normal = torch.distributions.Normal(means.t(), (log_deviations + start).clamp(low, high).exp().t())
    return torch.distributions.Independent(normal, 1)


def collector(task: Task, settings: LearnerSettings, shaping: ShapingConfig | None = None) -> Collector:
    return Collector(task, settings, None if shaping is None else check(shaping, task.spec))


def collect(learner: PolicyGradientLearner, one: Collector, update: int = 0, seed: int = 0) -> Rollout:
    """The rollout of the ``update``-th update of a training run."""
    position = update * one.size
    return one.collect(
        learner.policy,
        learner.behaviour(position),
        position,
        derive(seed, "train", update),
        np.random.default_rng(derive(seed, update)),
        Timings(),
    )


def learn(learner: PolicyGradientLearner, rollout: Rollout, seed: int = 0) -> dict[str, float | None]:
    """One update; ``seed`` draws its minibatches."""
    return learner.update(rollout, np.random.default_rng(seed))


def solved(rows: list[dict], enough: float, over: int = 5) -> bool:
    """Whether the mean sparse return of the last ``over`` updates is above ``enough``."""
    return len(rows) >= over and float(np.mean([row["sparse_return"] for row in rows[-over:]])) > enough


def train(
    task: Task, settings: LearnerSettings, updates: int, seed: int = 0, enough: float = float("inf"), over: int = 5
):
    """A learner after some updates, fewer where the task is `solved` before, and its rows of metrics."""
    learner = make_learner(task.spec, settings, seed)
    one = collector(task, settings)
    rows = []
    for update in range(updates):
        rollout = collect(learner, one, update, seed)
        rows.append(rollout.episode_metrics() | learn(learner, rollout, derive(seed, "minibatches", update)))
        if solved(rows, enough, over):
            break
    return learner, rows

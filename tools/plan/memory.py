"""How much memory a run takes at least, so that one that can never fit is refused before it starts."""

from __future__ import annotations

import os
from itertools import pairwise

from learning_signal.marl.settings import LearnerSettings, RunSettings
from learning_signal.marl.tasks.base import TaskSpec

FLOAT = 4
_PROCESS = 250e6
"""Bytes of a worker with the libraries it needs (``python -m bench.memory``)."""


def least_bytes(run: RunSettings, task: TaskSpec, workers: int) -> float:
    """Bytes that so many workers hold at the same time, at least: rollout, replay, networks and their activations."""
    learner = run.learner
    agents, seen = task.agents, task.observation_size + task.agents
    steps = (learner.rollout_steps or task.horizon) * learner.environments
    a_step = agents * seen + task.state_size
    floats = steps * a_step + _weights(learner, seen, task.state_size)
    if learner.learns_values:
        floats += learner.q_learning.replay_env_steps * a_step
    else:
        floats += steps * agents / learner.minibatches * sum(learner.hidden)
    return workers * (_PROCESS + FLOAT * floats)


def _weights(learner: LearnerSettings, seen: int, state: int) -> float:
    """Floats of an actor and a critic, their gradients, and the two moments of Adam."""
    between = sum(a * b for a, b in pairwise(learner.hidden))
    return 4 * (2 * between + (seen + state) * learner.hidden[0])


def machine_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def in_words(size: float) -> str:
    """``23 GB``, ``1.2 TB``."""
    for unit in ("MB", "GB", "TB"):
        size /= 1e6 if unit == "MB" else 1e3
        if size < 1000:
            break
    return f"{size:.3g} {unit}"

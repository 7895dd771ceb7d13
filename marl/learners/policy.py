"""From observations to actions: the actor's inputs and how an action is drawn from its logits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def agent_inputs(leading: tuple[int, ...], agents: int, observation_size: int) -> Tensor:
    """A float32 buffer ``[*leading, A, O + A]`` for observations, with every agent's one-hot identity filled in.

    Agents share one network; the identity is what lets them take different roles.
    """
    buffer = torch.zeros(*leading, agents, observation_size + agents)
    buffer[..., observation_size:] = torch.eye(agents)
    return buffer


def sample(logits: Tensor, uniforms: Tensor) -> Tensor:
    """One action ``[rows]`` per column of ``logits [actions, rows]``, by inversion of ``uniforms [rows]`` in [0, 1)."""
    cumulative = torch.softmax(logits, 0).cumsum_(0)
    return (cumulative[:-1] <= uniforms).sum(0)


def greedy(logits: Tensor) -> Tensor:
    """The most probable action ``[rows]`` of each column of ``logits [actions, rows]`` (the first among equals)."""
    return logits.argmax(0)


def episode_sums(values: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Sums of ``values [T, E]`` over each episode that ended inside the rollout: ``[episodes]`` float64.

    ``ended [T, E]`` marks the last step of an episode; what follows the last mark of an environment is left out.
    """
    environments, steps = np.nonzero(ended.T)
    totals = np.cumsum(values, axis=0, dtype=np.float64)[steps, environments]
    same_environment = environments[1:] == environments[:-1]
    sums = totals.copy()
    sums[1:][same_environment] -= totals[:-1][same_environment]
    return sums

"""A policy: the actors of all groups of agents, from observations to actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.distributions import Distribution, forbid
from learning_signal.marl.learners.networks import Network, flushed_denormals
from learning_signal.marl.learners.recurrent import RecurrentNetwork
from learning_signal.marl.tasks.base import Group, TaskSpec

Choose = Callable[[Distribution, Tensor, Tensor], Tensor]
"""``(distribution, outputs [outputs, rows], uniforms [rows, width]) -> actions``."""


def sample(distribution: Distribution, outputs: Tensor, uniforms: Tensor) -> Tensor:
    """Draw an action."""
    return distribution.sample(outputs, uniforms)


def greedy(distribution: Distribution, outputs: Tensor, uniforms: Tensor) -> Tensor:
    """Take the most probable action, or the most valuable one."""
    return distribution.best(outputs)


def places(group: Group) -> slice | list[int]:
    """Where a group is on the agent axis; a slice, which copies nothing, where its agents are neighbours."""
    first, last = group.agents[0], group.agents[-1]
    return slice(first, last + 1) if group.agents == tuple(range(first, last + 1)) else list(group.agents)


def input_size(group: Group) -> int:
    """Numbers an actor of the group sees: the observation, and which agent of the group it is."""
    return group.observation_size + len(group.agents)


class Inputs:
    """What actors see: one buffer ``[*leading, A_g, O_g + A_g]`` per group, every agent's one-hot identity filled in.

    Agents of a group share one network; the identity is what lets them take different roles.
    """

    def __init__(self, spec: TaskSpec, leading: tuple[int, ...]) -> None:
        self.groups: tuple[Tensor, ...] = tuple(
            torch.zeros(*leading, len(group.agents), input_size(group)) for group in spec.groups
        )
        self._observations, self._places = [], [places(group) for group in spec.groups]
        for group, buffer in zip(spec.groups, self.groups, strict=True):
            buffer[..., group.observation_size :] = torch.eye(len(group.agents))
            self._observations.append(buffer.numpy()[..., : group.observation_size])

    def write(self, observations: np.ndarray, at: int | None = None) -> None:
        """Fill in ``observations [E, A, O]``, as entry ``at`` of the first axis where one is given."""
        for buffer, where in zip(self._observations, self._places, strict=True):
            target = buffer if at is None else buffer[at]
            target[...] = observations[:, where, : target.shape[-1]]


class Actor(Protocol):
    """What a `Player` asks of a network. Memory and workspace are the network's own: it gets back what it gave."""

    def workspace(self, rows: int) -> Any:
        """Buffers for batches of ``rows``; None where it needs none."""
        ...

    def memory(self, rows: int) -> Tensor | None:
        """What ``rows`` agents remember before their first step; None where it remembers nothing."""
        ...

    def step(self, inputs: Tensor, memory: Any, workspace: Any, out: Tensor | None = None) -> Tensor:
        """Outputs ``[outputs, rows]`` of ``inputs [rows, inputs]``; ``memory`` is brought up to date."""
        ...


class Policy:
    """One actor per group of a task's agents."""

    def __init__(
        self, spec: TaskSpec, actors: Sequence[Network | RecurrentNetwork], distribution: Distribution
    ) -> None:
        self.spec, self.actors, self.distribution = spec, tuple(actors), distribution
        self.places = [places(group) for group in spec.groups]

    @property
    def device(self) -> torch.device:
        """Where the actors live."""
        return self.actors[0].parameters.device


class Player:
    """A policy at work in ``environments`` environments: its buffers, and what recurrent actors remember."""

    def __init__(self, policy: Policy, environments: int) -> None:
        """Nothing is remembered yet."""
        self.policy, self.environments = policy, environments
        spec = policy.spec
        self._actors: tuple[Actor, ...] = policy.actors
        self._rows = [environments * len(group.agents) for group in spec.groups]
        self._workspaces = [actor.workspace(rows) for actor, rows in zip(self._actors, self._rows, strict=True)]
        self._memories = [actor.memory(rows) for actor, rows in zip(self._actors, self._rows, strict=True)]
        shape = (environments, spec.agents)
        self._actions = torch.zeros(*shape, spec.actions) if spec.continuous else torch.zeros(shape, dtype=torch.int64)

    @flushed_denormals()
    def act(
        self,
        inputs: Sequence[Tensor],
        uniforms: Tensor,
        choose: Choose,
        out: Sequence[Tensor] | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """Joint actions ``[E, A]`` (``[E, A, D]``), in a buffer that the next call overwrites.

        ``inputs`` are ``[E, A_g, O_g + A_g]`` per group, ``uniforms`` are ``[E, A, width]``; ``out`` receives the
        outputs of each actor, ``[outputs, E * A_g]``. Actions are among those ``allowed [E, A, actions]`` bool.
        """
        policy = self.policy
        for index, (actor, where, rows) in enumerate(zip(self._actors, policy.places, self._rows, strict=True)):
            outputs = actor.step(
                inputs[index].reshape(rows, -1).to(policy.device),
                self._memories[index],
                self._workspaces[index],
                out=None if out is None else out[index],
            )
            draws = uniforms[:, where].reshape(rows, -1)
            if allowed is None:
                chosen = choose(policy.distribution, outputs, draws)
            else:
                chosen = self._choose_allowed(choose, outputs, draws, allowed[:, where].reshape(rows, -1))
            self._actions[:, where] = chosen.cpu().view(self.environments, -1, *self._actions.shape[2:])
        return self._actions

    def _choose_allowed(self, choose: Choose, outputs: Tensor, draws: Tensor, allowed: Tensor) -> Tensor:
        """What ``choose`` makes of ``outputs``, after those not ``allowed [rows, actions]`` were lowered in place."""
        allowed = allowed.to(outputs.device)
        forbid(outputs, allowed)
        chosen = choose(self.policy.distribution, outputs, draws)
        # Rounded, probabilities may sum to less than a draw, which then stands for the last action, allowed or not.
        right = allowed.gather(1, chosen[:, None])[:, 0]
        return torch.where(right, chosen, self.policy.distribution.best(outputs))

    def forget(self, environments: np.ndarray) -> None:
        """New episodes began where ``environments [E]`` is True: nothing of the old ones is remembered there."""
        for memory, rows in zip(self._memories, self._rows, strict=True):
            if memory is not None:
                per_row = np.repeat(environments, rows // self.environments)
                memory[torch.from_numpy(per_row).to(memory.device)] = 0


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

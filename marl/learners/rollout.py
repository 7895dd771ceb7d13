"""Collects rollouts: the policy acts in fresh episodes, and all that the update needs is recorded."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.policy import Choose, Inputs, Player, Policy, episode_sums
from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.shaping import Potential, shaping_rewards
from learning_signal.marl.tasks.base import Task, allowed_actions


@dataclass(frozen=True)
class Cut:
    """The true successor states of episodes that the time limit ended before the last step of a rollout."""

    step: int
    """The transition ``t`` that was truncated."""
    environments: np.ndarray
    """Indices ``[K]`` of the environments concerned."""
    inputs: tuple[Tensor, ...]
    """``[K, A_g, O_g + A_g]`` per group: what actors would see of the successors."""
    states: Tensor
    """``[K, S]``: the joint states."""
    alive: np.ndarray | None
    """``[K, A]`` bool: who would act; None where nobody leaves early."""
    allowed: np.ndarray | None
    """``[K, A, actions]`` bool: what they might do; None where nothing is ever forbidden."""
    features: dict[str, np.ndarray]
    """``[K]`` or ``[K, A]``: features of the successors, those that the rollout keeps."""


@dataclass
class Timings:
    """Seconds spent so far, by kind of work."""

    environment: float = 0.0
    policy: float = 0.0
    shaping: float = 0.0
    update: float = 0.0
    evaluation: float = 0.0


@dataclass
class Rollout:
    """``T`` transitions of ``E`` environments, in buffers of the collector that its next rollout overwrites."""

    inputs: tuple[Tensor, ...]
    """``[T + 1, E, A_g, O_g + A_g]`` per group: observations and identities; entry ``t + 1`` is after any reset."""
    states: Tensor
    """``[T + 1, E, S]`` joint states."""
    outputs: tuple[Tensor, ...]
    """``[T, outputs, E * A_g]`` per group, of the actors that acted."""
    actions: Tensor
    """``[T, E, A]`` int64 or, continuous, ``[T, E, A, D]`` float32 (as drawn: some may lie outside [-1, 1])."""
    sparse_rewards: np.ndarray
    """``[T, E]`` float32, the task's own."""
    progress: np.ndarray | None
    """``[T, E]`` float32 of the true successor states; None where the task declares no progress."""
    terminated: np.ndarray
    """``[T, E]`` bool."""
    truncated: np.ndarray
    """``[T, E]`` bool."""
    alive: np.ndarray | None
    """``[T + 1, E, A]`` bool: who acts; None where nobody leaves early. Entry ``t + 1`` is after any reset."""
    allowed: np.ndarray | None
    """``[T + 1, E, A, actions]`` bool: what each may do; None where nothing is ever forbidden; as ``alive``."""
    rewards: Tensor
    """``[T, E, A]`` float32: team reward plus shaping, computed when the rollout is complete."""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """``[T + 1, E]`` or ``[T + 1, E, A]`` float32, those that were asked for; entry ``t + 1`` is after any reset."""
    cuts: list[Cut] = field(default_factory=list)
    potential: Potential | None = None
    """The compiled shaping of its rewards; None without shaping."""
    env_steps: int = 0
    """The run's position before it."""

    @property
    def ended(self) -> np.ndarray:
        """``[T, E]`` bool: terminated or truncated."""
        return self.terminated | self.truncated

    @property
    def starts(self) -> np.ndarray:
        """``[T, E]`` bool: the first steps of episodes."""
        return np.concatenate([np.ones_like(self.terminated[:1]), self.ended[:-1]])

    def episode_metrics(self) -> dict[str, float | None]:
        """Means over the episodes that finished in this rollout; None where none did."""
        ended = self.ended
        lengths = episode_sums(np.ones_like(self.sparse_rewards), ended)
        if not len(lengths):
            return {"sparse_return": None, "progress": None, "shaped_return": None}
        return {
            "sparse_return": float(episode_sums(self.sparse_rewards, ended).mean()),
            "progress": None if self.progress is None else float((episode_sums(self.progress, ended) / lengths).mean()),
            "shaped_return": float(episode_sums(self.rewards.numpy().mean(axis=2), ended).mean()),
        }


class Collector:
    """Runs a policy in one batched task. Buffers are allocated once; NumPy and torch share their memory."""

    def __init__(
        self, task: Task, settings: LearnerSettings, potential: Potential | None, keep: Collection[str] = ()
    ) -> None:
        """``potential`` is the compiled shaping (``marl.shaping.check``), None without shaping.

        Features that it reads are kept in the rollout, and those named in ``keep``.
        """
        spec = task.spec
        self.task, self.settings, self.potential = task, settings, potential
        self.steps = settings.rollout_steps or spec.horizon
        steps, environments, agents = self.steps, task.environments, spec.agents
        self.size = steps * environments
        self._inputs = Inputs(spec, (steps + 1, environments))
        action = (steps, environments, agents)
        self.rollout = Rollout(
            inputs=self._inputs.groups,
            states=torch.zeros(steps + 1, environments, spec.state_size),
            outputs=(),
            actions=torch.zeros(*action, spec.actions) if spec.continuous else torch.zeros(action, dtype=torch.int64),
            sparse_rewards=np.zeros((steps, environments), np.float32),
            progress=None if spec.progress is None else np.zeros((steps, environments), np.float32),
            terminated=np.zeros((steps, environments), bool),
            truncated=np.zeros((steps, environments), bool),
            alive=np.ones((steps + 1, environments, agents), bool) if spec.agents_leave else None,
            allowed=np.ones((steps + 1, environments, agents, spec.actions), bool) if spec.masks_actions else None,
            rewards=torch.zeros(steps, environments, agents),
            potential=potential,
        )
        self._states = self.rollout.states.numpy()
        # The potential is evaluated once per rollout, on all states together.
        read = {name for expression in potential.expressions for name in expression.names} if potential else set()
        self.names = sorted(read | set(keep))

    def collect(
        self,
        policy: Policy,
        choose: Choose,
        env_steps: int,
        seed: int,
        generator: np.random.Generator,
        timings: Timings,
    ) -> Rollout:
        """Fill the buffers with ``T`` transitions of fresh episodes.

        ``env_steps`` is the run's position before the rollout (it sets the shaping strength of every step), ``seed``
        the stream of episode seeds; ``generator`` gives the uniform numbers by which ``choose`` draws actions.
        """
        task, rollout, clock = self.task, self.rollout, time.perf_counter
        environments, agents = task.environments, task.spec.agents
        shape = (self.steps, environments, agents, policy.distribution.width)
        uniforms = torch.from_numpy(generator.random(shape, dtype=np.float32)).to(policy.device)
        self.make_room_for_outputs(policy)
        player = Player(policy, environments)
        rollout.cuts, rollout.env_steps, resets = [], env_steps, 1
        now = clock()
        observations = task.reset(episode_seeds(seed, 0, environments))
        now = self.record(0, observations, timings, now)
        for t in range(self.steps):
            inputs, outputs = [group[t] for group in rollout.inputs], [group[t] for group in rollout.outputs]
            allowed = None if rollout.allowed is None else torch.from_numpy(rollout.allowed[t])
            rollout.actions[t] = player.act(inputs, uniforms[t], choose, outputs, allowed)
            actions = rollout.actions[t].numpy()
            now, before = clock(), now
            timings.policy += now - before

            observations, reward, terminated, truncated, alive = task.step(
                np.clip(actions, -1.0, 1.0) if task.spec.continuous else actions
            )
            rollout.sparse_rewards[t], rollout.terminated[t], rollout.truncated[t] = reward, terminated, truncated
            if rollout.progress is not None:
                rollout.progress[t] = task.progress()
            ended = terminated | truncated
            if rollout.alive is not None:
                rollout.alive[t + 1] = alive
            if t + 1 < self.steps and ended.any():
                if truncated.any():
                    rollout.cuts.append(self.cut(t, observations, truncated, alive))
                observations = task.reset(episode_seeds(seed, resets * environments, environments), ended)
                player.forget(ended)
                if rollout.alive is not None:
                    rollout.alive[t + 1, ended] = True
                resets += 1
            now = self.record(t + 1, observations, timings, now)
        rollout.rewards = self.rewards(env_steps)
        timings.shaping += clock() - now
        return rollout

    def make_room_for_outputs(self, policy: Policy) -> None:
        """Allocate the rollout's ``outputs``, the first time."""
        if not self.rollout.outputs:
            rows = [self.task.environments * len(group.agents) for group in policy.spec.groups]
            self.rollout.outputs = tuple(
                torch.zeros(self.steps, actor.outputs, count, device=policy.device)
                for actor, count in zip(policy.actors, rows, strict=True)
            )

    def record(self, t: int, observations: np.ndarray, timings: Timings, since: float) -> float:
        """Record the current states as entry ``t``; returns the time at which it was done."""
        self._inputs.write(observations, at=t)
        self._states[t] = self.task.state()
        if self.rollout.allowed is not None:
            self.rollout.allowed[t] = allowed_actions(self.task)
        now = time.perf_counter()
        timings.environment += now - since
        if not self.names:
            return now
        kept, features = self.rollout.features, self.task.features(self.names)
        for name in self.names:
            if name not in kept:
                kept[name] = np.zeros((self.steps + 1, *features[name].shape), np.float32)
            kept[name][t] = features[name]
        then = time.perf_counter()
        timings.shaping += then - now
        return then

    def cut(self, t: int, observations: np.ndarray, truncated: np.ndarray, alive: np.ndarray | None) -> Cut:
        """The successors of transition ``t`` in the environments that ``truncated`` marks, before they are reset."""
        where = np.flatnonzero(truncated)
        inputs = Inputs(self.task.spec, (len(where),))
        inputs.write(observations[where])
        current = self.task.features(self.names) if self.names else {}
        features = {name: current[name][where].copy() for name in self.names}
        states = torch.from_numpy(self.task.state()[where].copy())
        allowed = allowed_actions(self.task)
        return Cut(
            t,
            where,
            inputs.groups,
            states,
            alive=None if alive is None else alive[where],
            allowed=None if allowed is None else allowed[where],
            features=features,
        )

    def rewards(self, env_steps: int) -> Tensor:
        """Team reward of every agent plus the shaping reward: ``[T, E, A]`` float32."""
        rollout, agents, potential = self.rollout, self.task.spec.agents, self.potential
        rewards = np.repeat(rollout.sparse_rewards[:, :, None], agents, axis=2)
        if potential is not None:
            steps, environments = self.steps, self.task.environments
            flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in rollout.features.items()}
            potentials = potential.total(flat).reshape(steps + 1, environments, -1)
            successors = potentials[1:]
            if rollout.cuts:
                successors = successors.copy()
                for cut in rollout.cuts:
                    successors[cut.step, cut.environments] = potential.total(cut.features)
            beta, beta_next = potential.config.schedule(env_steps, steps, environments)
            rewards += shaping_rewards(
                potentials[:-1], successors, beta, beta_next, rollout.terminated, self.settings.discount
            )
        return torch.from_numpy(rewards)

"""Collects rollouts: the policy acts in fresh episodes and everything the update needs is written down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from marl.learners.networks import Network
from marl.learners.policy import agent_inputs, episode_sums, sample
from marl.randomness import episode_seeds
from marl.settings import LearnerSettings
from marl.shaping import Potential, ShapingConfig, shaping_rewards
from marl.tasks.base import Task


@dataclass(frozen=True)
class Cut:
    """The true successor states of episodes that the time limit ended before the last step of a rollout."""

    step: int
    """The transition ``t`` that was truncated."""
    environments: np.ndarray
    """Indices ``[K]`` of the environments concerned."""
    critic_inputs: Tensor
    """``[K, ...]``: what the critic sees of the successors."""
    features: dict[str, np.ndarray]
    """``[K]`` or ``[K, A]``: shaping features of the successors (empty without shaping)."""


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

    inputs: Tensor
    """``[T + 1, E, A, O + A]``: observations and agent identities; entry ``t + 1`` is after any reset."""
    critic_inputs: Tensor
    """``[T + 1, E, S]`` joint states (MAPPO) or ``inputs`` itself (IPPO)."""
    logits: Tensor
    """``[T, actions, E * A]`` of the policy that acted."""
    actions: Tensor
    """``[T, E * A]`` int64."""
    sparse_rewards: np.ndarray
    """``[T, E]`` float32, the task's own."""
    progress: np.ndarray | None
    """``[T, E]`` float32 of the true successor states; None where the task declares no progress."""
    terminated: np.ndarray
    """``[T, E]`` bool."""
    truncated: np.ndarray
    """``[T, E]`` bool."""
    cuts: list[Cut] = field(default_factory=list)
    rewards: Tensor | None = None
    """``[T, E, A]`` float32: team reward plus shaping, set when the rollout is complete."""

    def episode_metrics(self) -> dict[str, float | None]:
        """Means over the episodes that finished in this rollout; None where none did."""
        ended = self.terminated | self.truncated
        lengths = episode_sums(np.ones_like(self.sparse_rewards), ended)
        if not len(lengths):
            return {"sparse_return": None, "progress": None, "shaped_return": None}
        return {
            "sparse_return": float(episode_sums(self.sparse_rewards, ended).mean()),
            "progress": None if self.progress is None else float((episode_sums(self.progress, ended) / lengths).mean()),
            "shaped_return": float(episode_sums(self.rewards.numpy().mean(axis=2), ended).mean()),
        }


class Collector:
    """Runs the policy in one batched task. Buffers are allocated once; NumPy and torch share their memory."""

    def __init__(
        self, task: Task, settings: LearnerSettings, shaping: ShapingConfig, potential: Potential | None
    ) -> None:
        """``potential`` is the compiled potential of ``shaping`` (``marl.shaping.check``), None without shaping."""
        spec = task.spec
        self.task, self.settings, self.shaping, self.potential = task, settings, shaping, potential
        self.steps = settings.rollout_steps or spec.horizon
        steps, environments, agents = self.steps, task.environments, spec.agents
        self.size = steps * environments
        inputs = agent_inputs((steps + 1, environments), agents, spec.observation_size)
        joint = settings.algorithm == "mappo"
        self.rollout = Rollout(
            inputs=inputs,
            critic_inputs=torch.zeros(steps + 1, environments, spec.state_size) if joint else inputs,
            logits=torch.zeros(steps, spec.actions, environments * agents, device=settings.device),
            actions=torch.zeros(steps, environments * agents, dtype=torch.int64),
            sparse_rewards=np.zeros((steps, environments), np.float32),
            progress=None if spec.progress is None else np.zeros((steps, environments), np.float32),
            terminated=np.zeros((steps, environments), bool),
            truncated=np.zeros((steps, environments), bool),
        )
        self._observations = inputs.numpy()[..., : spec.observation_size]
        self._states = self.rollout.critic_inputs.numpy() if joint else None
        self._actions = self.rollout.actions.numpy().reshape(steps, environments, agents)
        # Only what the potential reads is kept; it is evaluated once per rollout, on all states together.
        expressions = potential.expressions if potential else ()
        self._names = sorted({name for expression in expressions for name in expression.names})
        self._features: dict[str, np.ndarray] = {}

    def collect(
        self, actor: Network, env_steps: int, seed: int, generator: np.random.Generator, timings: Timings
    ) -> Rollout:
        """Fill the buffers with ``T`` transitions of fresh episodes.

        ``env_steps`` is the run's position before the rollout (it sets the shaping strength of every step), ``seed``
        the stream of episode seeds, ``generator`` draws the actions.
        """
        task, rollout, clock = self.task, self.rollout, time.perf_counter
        environments, agents = task.environments, task.spec.agents
        rows = environments * agents
        uniforms = torch.from_numpy(generator.random((self.steps, rows), dtype=np.float32)).to(self.settings.device)
        workspace = actor.workspace(rows)
        rollout.cuts, resets = [], 1
        now = clock()
        observations = task.reset(episode_seeds(seed, 0, environments))
        now = self._record(0, observations, timings, now)
        for t in range(self.steps):
            inputs = rollout.inputs[t].view(rows, -1).to(self.settings.device)
            logits = actor.forward(inputs, workspace, out=rollout.logits[t])
            rollout.actions[t].copy_(sample(logits, uniforms[t]))
            now, before = clock(), now
            timings.policy += now - before

            observations, reward, terminated, truncated = task.step(self._actions[t])
            rollout.sparse_rewards[t], rollout.terminated[t], rollout.truncated[t] = reward, terminated, truncated
            if rollout.progress is not None:
                rollout.progress[t] = task.progress()
            ended = terminated | truncated
            if t + 1 < self.steps and ended.any():
                if truncated.any():
                    rollout.cuts.append(self._cut(t, observations, truncated))
                observations = task.reset(episode_seeds(seed, resets * environments, environments), ended)
                resets += 1
            now = self._record(t + 1, observations, timings, now)
        rollout.rewards = self._rewards(env_steps)
        timings.shaping += clock() - now
        return rollout

    def _record(self, t: int, observations: np.ndarray, timings: Timings, since: float) -> float:
        """Write down the current states as entry ``t``; returns the time at which it was done."""
        self._observations[t] = observations
        if self._states is not None:
            self._states[t] = self.task.state()
        now = time.perf_counter()
        timings.environment += now - since
        if self.potential is None:
            return now
        features = self.task.features(self._names)
        for name in self._names:
            if name not in self._features:
                self._features[name] = np.zeros((self.steps + 1, *features[name].shape), np.float32)
            self._features[name][t] = features[name]
        then = time.perf_counter()
        timings.shaping += then - now
        return then

    def _cut(self, t: int, observations: np.ndarray, truncated: np.ndarray) -> Cut:
        """The successors of transition ``t`` in the environments that ``truncated`` marks, before they are reset."""
        where = np.flatnonzero(truncated)
        if self._states is not None:
            critic_inputs = torch.from_numpy(self.task.state()[where].copy())
        else:
            spec = self.task.spec
            critic_inputs = agent_inputs((len(where),), spec.agents, spec.observation_size)
            critic_inputs[..., : spec.observation_size] = torch.from_numpy(observations[where].copy())
        features = {}
        if self.potential is not None:
            current = self.task.features(self._names)
            features = {name: current[name][where].copy() for name in self._names}
        return Cut(t, where, critic_inputs, features)

    def _rewards(self, env_steps: int) -> Tensor:
        """Team reward of every agent plus the shaping reward: ``[T, E, A]`` float32."""
        rollout, agents = self.rollout, self.task.spec.agents
        rewards = np.repeat(rollout.sparse_rewards[:, :, None], agents, axis=2)
        if self.potential is not None:
            steps, environments = self.steps, self.task.environments
            flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in self._features.items()}
            potentials = self.potential.total(flat).reshape(steps + 1, environments, -1)
            successors = potentials[1:]
            if rollout.cuts:
                successors = successors.copy()
                for cut in rollout.cuts:
                    successors[cut.step, cut.environments] = self.potential.total(cut.features)
            beta, beta_next = self.shaping.schedule(env_steps, steps, environments)
            rewards += shaping_rewards(
                potentials[:-1], successors, beta, beta_next, rollout.terminated, self.settings.discount
            )
        return torch.from_numpy(rewards)

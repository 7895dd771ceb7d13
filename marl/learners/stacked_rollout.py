"""Collects the rollouts of several branches in one batched task, each exactly as it would be alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
import torch

from marl.learners.policy import Player, Policy, sample
from marl.learners.rollout import Collector, Rollout, Timings
from marl.randomness import episode_seeds
from marl.settings import LearnerSettings
from marl.shaping import Potential
from marl.tasks.base import Task


class _Share:
    """The environments of one branch, as far as its collector looks at them."""

    def __init__(self, stack: StackedCollector, part: slice, environments: int) -> None:
        self._stack, self._part = stack, part
        self.spec, self.environments = stack.task.spec, environments

    def state(self) -> np.ndarray:
        return self._stack.states[self._part]

    def features(self, names: Collection[str]) -> dict[str, np.ndarray]:
        return {name: self._stack.features[name][self._part] for name in names}


class StackedCollector:
    """One collector per branch over shares of one task of ``B * E`` environments, branch after branch.

    The task is stepped, the policies act, and states and features are computed once for all.
    """

    def __init__(self, task: Task, settings: LearnerSettings, potentials: Sequence[Potential | None]) -> None:
        """``potentials``: the compiled shaping of each branch, None without."""
        count = settings.environments
        self.task = task
        self.parts = [slice(index * count, (index + 1) * count) for index in range(len(potentials))]
        self.collectors = [
            Collector(_Share(self, part, count), settings, potential)
            for part, potential in zip(self.parts, potentials, strict=True)
        ]
        self.size, self.steps = self.collectors[0].size, self.collectors[0].steps
        self._names = sorted({name for collector in self.collectors for name in collector.names})
        self.states: np.ndarray | None = None
        self.features: dict[str, np.ndarray] = {}

    def collect(
        self, policy: Policy, env_steps: Sequence[int], seeds: Sequence[int],
        generators: Sequence[np.random.Generator], timings: Timings,
    ) -> list[Rollout]:  # fmt: skip
        """Fill the rollout of every collector with ``T`` transitions of fresh episodes.

        ``policy`` is that of all branches; positions, episode streams and generators are one per branch, as in
        ``Collector.collect``.
        """
        task, collectors, clock = self.task, self.collectors, time.perf_counter
        rollouts = [collector.rollout for collector in collectors]
        count, agents = collectors[0].task.environments, task.spec.agents
        shape = (self.steps, count, agents, policy.distribution.width)
        uniforms = torch.cat(
            [torch.from_numpy(generator.random(shape, dtype=np.float32)) for generator in generators], dim=1
        ).to(policy.device)
        for collector in collectors:
            collector.make_room_for_outputs(policy)
            collector.rollout.cuts = []
        # A collector makes room for the environments of its share; the policy's outputs are those of all.
        outputs = [
            torch.empty(actor.outputs, len(collectors) * one.shape[2], device=policy.device)
            for actor, one in zip(policy.actors, rollouts[0].outputs, strict=True)
        ]
        player, resets = Player(policy, task.environments), [1] * len(collectors)
        now = clock()
        observations = task.reset(np.concatenate([episode_seeds(seed, 0, count) for seed in seeds]))
        now = self._record(0, observations, timings, now)
        for t in range(self.steps):
            inputs = [
                torch.cat([rollout.inputs[group][t] for rollout in rollouts]) for group in range(len(policy.actors))
            ]
            actions = player.act(inputs, uniforms[t], sample, out=outputs)
            for rollout, part in zip(rollouts, self.parts, strict=True):
                rollout.actions[t] = actions[part]
            for group, whole in enumerate(outputs):
                for rollout, columns in zip(rollouts, whole.chunk(len(rollouts), dim=1), strict=True):
                    rollout.outputs[group][t] = columns
            taken = actions.numpy()
            now, before = clock(), now
            timings.policy += now - before

            observations, reward, terminated, truncated, _ = task.step(
                np.clip(taken, -1.0, 1.0) if task.spec.continuous else taken
            )
            progress = task.progress()
            for rollout, part in zip(rollouts, self.parts, strict=True):
                rollout.sparse_rewards[t] = reward[part]
                rollout.terminated[t], rollout.truncated[t] = terminated[part], truncated[part]
                if rollout.progress is not None:
                    rollout.progress[t] = progress[part]
            ended = terminated | truncated
            if t + 1 < self.steps and ended.any():
                if truncated.any():
                    self._cut(t, observations, truncated)
                observations = self._reset(ended, seeds, resets)
            now = self._record(t + 1, observations, timings, now)
        for collector, position in zip(collectors, env_steps, strict=True):
            collector.rollout.rewards = collector.rewards(position)
        timings.shaping += clock() - now
        return rollouts

    def _look(self) -> None:
        """Compute states and features of all environments, for the collectors to read their shares."""
        self.states = self.task.state()
        self.features = self.task.features(self._names) if self._names else {}

    def _record(self, t: int, observations: np.ndarray, timings: Timings, now: float) -> float:
        self._look()
        for collector, part in zip(self.collectors, self.parts, strict=True):
            now = collector.record(t, observations[part], timings, now)
        return now

    def _cut(self, t: int, observations: np.ndarray, truncated: np.ndarray) -> None:
        self._look()
        for collector, part in zip(self.collectors, self.parts, strict=True):
            if truncated[part].any():
                collector.rollout.cuts.append(collector.cut(t, observations[part], truncated[part], None))

    def _reset(self, ended: np.ndarray, seeds: Sequence[int], resets: list[int]) -> np.ndarray:
        """New episodes where others ``ended``; a branch's stream moves on when one of its own did."""
        new = np.zeros(len(ended), np.uint64)
        for index, part in enumerate(self.parts):
            if ended[part].any():
                count = self.collectors[index].task.environments
                new[part] = episode_seeds(seeds[index], resets[index] * count, count)
                resets[index] += 1
        return self.task.reset(new, ended)

"""Tiny tasks that need one ability each, for tests of learners, segments and evaluation."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from marl.randomness import uniforms
from marl.tasks.base import Feature, Step, TaskSpec

CUES = 3


class Cue:
    """Every agent sees the same cue; agent i must answer ``(cue + i) % 3``. Reward 1 when all agents are right.

    So an agent must read its observation and know who it is. Random play earns ``3**-agents`` per step. With
    ``varied`` an episode lasts 1 to ``horizon`` steps, set by its seed; ``terminates`` says how it ends there.
    """

    def __init__(
        self, environments: int, agents: int = 2, horizon: int = 4, varied: bool = False, terminates: bool = False
    ) -> None:
        self.environments, self.varied, self.terminates = environments, varied, terminates
        self.spec = TaskSpec(
            name="cue",
            description="Answer a common cue, each agent in its own way.",
            sparse_reward="1 per step in which every agent is right",
            agents=agents,
            observation_size=CUES,
            state_size=CUES + 1,
            actions=CUES,
            action_names=("zero", "one", "two"),
            idle_action=None,
            horizon=horizon,
            max_return=float(horizon),
            features=(
                Feature("right_share", "Share of agents that were right in the last step.", "team", 0.0, 1.0, "higher"),
                Feature("right", "1 where the agent was right in the last step.", "agent", 0.0, 1.0, "higher"),
            ),
            progress="share of agents that were right in the last step",
        )
        self._seeds = np.zeros(environments, np.uint64)
        self._elapsed = np.zeros(environments, np.int64)
        self._lengths = np.ones(environments, np.int64)
        self._right = np.zeros((environments, agents), np.float32)

    def _cues(self) -> np.ndarray:
        draws = uniforms(self._seeds, self.spec.horizon + 2)
        return (draws[np.arange(self.environments), self._elapsed] * CUES).astype(np.int64)

    def _observations(self) -> np.ndarray:
        one_hot = np.eye(CUES, dtype=np.float32)[self._cues()]
        return np.repeat(one_hot[:, None], self.spec.agents, axis=1)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        where = np.ones(self.environments, bool) if where is None else where
        self._seeds = np.where(where, seeds, self._seeds)
        self._elapsed = np.where(where, 0, self._elapsed)
        self._right[where] = 0
        length = 1 + (uniforms(self._seeds, 1, stream=99)[:, 0] * self.spec.horizon).astype(np.int64)
        self._lengths = length if self.varied else np.full(self.environments, self.spec.horizon)
        return self._observations()

    def step(self, actions: np.ndarray) -> Step:
        if (self._elapsed >= self._lengths).any():
            raise RuntimeError("An ended episode was stepped; reset it first.")
        wanted = (self._cues()[:, None] + np.arange(self.spec.agents)) % CUES
        self._right = (actions == wanted).astype(np.float32)
        self._elapsed = self._elapsed + 1
        ended = self._elapsed >= self._lengths
        never = np.zeros_like(ended)
        terminated, truncated = (ended, never) if self.terminates else (never, ended)
        return Step(self._observations(), self._right.min(axis=1), terminated, truncated)

    def state(self) -> np.ndarray:
        elapsed = (self._elapsed / self.spec.horizon).astype(np.float32)
        return np.concatenate([self._observations()[:, 0], elapsed[:, None]], axis=1)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        every = {"right_share": self._right.mean(axis=1), "right": self._right.copy()}
        return {name: every[name] for name in (every if names is None else names)}

    def progress(self) -> np.ndarray:
        return self._right.mean(axis=1)


def make_sanity_task(name: str, environments: int) -> Cue:
    """Stands in for ``make_task``: ``"cue"``, ``"cue-varied"`` (truncated) or ``"cue-varied-terminates"``."""
    return Cue(environments, varied="varied" in name, terminates="terminates" in name)

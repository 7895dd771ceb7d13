"""One environment of a batched task as a PettingZoo ``ParallelEnv``, for tools that speak PettingZoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from marl.randomness import episode_seeds
from marl.tasks import Task, make_task


def as_parallel_env(name: str, seed: int) -> BatchedTaskEnv:
    """The task ``name`` (with options, as in `marl.tasks.make_task`) as a ``ParallelEnv``.

    Episodes are the stream of ``seed``: episode k starts from ``episode_seeds(seed, k, 1)``. Raises what
    `make_task` raises.
    """
    return BatchedTaskEnv(make_task(name, 1), seed)


class BatchedTaskEnv(ParallelEnv):
    """Agents ``agent_0 ..``; every agent is paid the sparse team reward; infos hold the declared features.

    ``infos[agent]["features"]`` maps each feature to a float: the team's value, or the agent's own.
    """

    def __init__(self, task: Task, seed: int) -> None:
        spec = task.spec
        self.metadata = {"name": spec.name, "render_modes": []}
        self.render_mode = None
        self.possible_agents = [f"agent_{index}" for index in range(spec.agents)]
        self.agents: list[str] = []
        self._task = task
        self._seed = seed
        self._episode = 0
        everything = spaces.Box(-np.inf, np.inf, (spec.observation_size,), np.float32)
        self.observation_spaces = {agent: everything for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(spec.actions) for agent in self.possible_agents}
        self.state_space = spaces.Box(-np.inf, np.inf, (spec.state_size,), np.float32)

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of one agent's observation."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of one agent's action."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start the next episode of the stream; a ``seed`` starts a new stream at its first episode.

        ``options`` is there for PettingZoo's interface and unused: a task takes its options in its name.
        """
        if seed is not None:
            self._seed, self._episode = seed, 0
        observations = self._task.reset(episode_seeds(self._seed, self._episode, 1))
        self._episode += 1
        self.agents = list(self.possible_agents)
        return self._by_agent(observations[0]), self._infos()

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        """Apply one action per agent; observations, rewards, terminations, truncations and infos by agent.

        Raises ``ValueError`` when an agent of the episode has no action.
        """
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(
                f"step got no action for {', '.join(missing)}, expected one per agent: add them."
            )
        if not self.agents:
            return {}, {}, {}, {}, {}
        step = self._task.step(np.array([[actions[agent] for agent in self.agents]]))
        observations, infos = self._by_agent(step.observations[0]), self._infos()
        rewards = dict.fromkeys(self.agents, float(step.reward[0]))
        terminations = dict.fromkeys(self.agents, bool(step.terminated[0]))
        truncations = dict.fromkeys(self.agents, bool(step.truncated[0]))
        if step.terminated[0] or step.truncated[0]:
            self.agents = []
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """The joint state ``[S]`` float32."""
        return self._task.state()[0]

    def render(self) -> None:
        """These tasks draw nothing."""

    def close(self) -> None:
        """Nothing is held open."""

    def _by_agent(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.possible_agents, rows, strict=True))

    def _infos(self) -> dict[str, dict[str, Any]]:
        values = {name: value[0] for name, value in self._task.features().items()}
        return {
            agent: {
                "features": {
                    name: float(value if value.ndim == 0 else value[index]) for name, value in values.items()
                }
            }
            for index, agent in enumerate(self.possible_agents)
        }

"""One environment of a batched task as a PettingZoo ``ParallelEnv``, for tools that speak PettingZoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import Task, allowed_actions
from learning_signal.marl.tasks.picture import render


def as_parallel_env(name: str, seed: int) -> BatchedTaskEnv:
    """The task ``name`` (with options, as in `marl.tasks.make_task`) as a ``ParallelEnv``.

    Episodes are the stream of ``seed``: episode k starts from ``episode_seeds(seed, k, 1)``. Raises what
    `make_task` raises.
    """
    return BatchedTaskEnv(make_task(name, 1), seed)


class BatchedTaskEnv(ParallelEnv):
    """Agents ``agent_0 ..``; every agent is paid the sparse team reward; infos hold the declared features.

    ``infos[agent]["features"]`` maps each feature to a float: the team's value, or the agent's own; where the task
    forbids actions, ``infos[agent]["action_mask"]`` is 1 for those that are allowed, int8. An agent that
    leaves before the episode ends is terminated at the step after which it acts no more.
    """

    def __init__(self, task: Task, seed: int) -> None:
        spec = task.spec
        self.metadata = {"name": spec.name, "render_modes": ["rgb_array"]}
        self.render_mode = "rgb_array"
        self.possible_agents = [f"agent_{index}" for index in range(spec.agents)]
        self.agents: list[str] = []
        self._task = task
        self._seed = seed
        self._episode = 0
        self._place = {agent: place for place, agent in enumerate(self.possible_agents)}
        groups = {self.possible_agents[place]: group for group in spec.groups for place in group.agents}
        self._actions = {agent: group.actions for agent, group in groups.items()}
        self.observation_spaces = {
            agent: spaces.Box(-np.inf, np.inf, (groups[agent].observation_size,), np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: spaces.Box(-1.0, 1.0, (groups[agent].actions,), np.float32)
            if spec.continuous
            else spaces.Discrete(groups[agent].actions)
            for agent in self.possible_agents
        }
        self.state_space = spaces.Box(-np.inf, np.inf, (spec.state_size,), np.float32)

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of one agent's observation."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete | spaces.Box:
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

    def step(self, actions: dict[str, int | np.ndarray]) -> tuple[dict, dict, dict, dict, dict]:
        """Apply one action per agent; observations, rewards, terminations, truncations and infos by agent.

        Raises ``ValueError`` when an agent of the episode has no action, and what the task's own ``step`` raises.
        """
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"step got no action for {', '.join(missing)}, expected one per agent: add them.")
        if not self.agents:
            return {}, {}, {}, {}, {}
        step = self._task.step(self._joint(actions))
        ended = bool(step.terminated[0] or step.truncated[0])
        left = {agent: step.alive is not None and not step.alive[0, self._place[agent]] for agent in self.agents}
        observations, infos = self._by_agent(step.observations[0]), self._infos()
        rewards = dict.fromkeys(self.agents, float(step.reward[0]))
        terminations = {agent: bool(step.terminated[0]) or (gone and not ended) for agent, gone in left.items()}
        truncations = dict.fromkeys(self.agents, bool(step.truncated[0]))
        self.agents = [] if ended else [agent for agent in self.agents if not left[agent]]
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """The joint state ``[S]`` float32."""
        return self._task.state()[0]

    def render(self) -> np.ndarray:
        """What the environment looks like now: pixels ``[height, width, 3]`` uint8."""
        return render(self._task.draw(0))

    def close(self) -> None:
        """Release the resources of the task, such as worker processes."""
        close = getattr(self._task, "close", None)
        if close is not None:
            close()

    def _joint(self, actions: dict[str, int | np.ndarray]) -> np.ndarray:
        """The actions as a batch of one; agents that have left, and numbers an agent does not use, are 0."""
        spec = self._task.spec
        if not spec.continuous:
            return np.array([[actions[agent] if agent in self.agents else 0 for agent in self.possible_agents]])
        joint = np.zeros((1, spec.agents, spec.actions), np.float32)
        for agent in self.agents:
            given, shape = np.asarray(actions[agent]), self.action_spaces[agent].shape
            if given.shape != shape:
                raise ValueError(f"step got an action of shape {given.shape} for {agent}, expected {shape}.")
            joint[0, self._place[agent], : len(given)] = given
        return joint

    def _by_agent(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Each agent's own part of its row of ``rows [A, O]``."""
        return {agent: rows[self._place[agent], : self.observation_spaces[agent].shape[0]] for agent in self.agents}

    def _infos(self) -> dict[str, dict[str, Any]]:
        values = {name: value[0] for name, value in self._task.features().items()}
        allowed = allowed_actions(self._task)
        infos: dict[str, dict[str, Any]] = {}
        for agent in self.agents:
            place = self._place[agent]
            own = {name: float(value if value.ndim == 0 else value[place]) for name, value in values.items()}
            infos[agent] = {"features": own}
            if allowed is not None:
                infos[agent]["action_mask"] = allowed[0, place, : self._actions[agent]].astype(np.int8)
        return infos

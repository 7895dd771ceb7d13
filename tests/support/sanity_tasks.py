"""Tiny tasks that need one ability each, for tests of learners, segments and evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from learning_signal.marl.randomness import uniforms
from learning_signal.marl.tasks.base import Feature, Group, Step, TaskSpec
from learning_signal.marl.tasks.picture import Picture, Shape

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

    def heuristic(self) -> np.ndarray:
        """The right answers: full marks."""
        return (self._cues()[:, None] + np.arange(self.spec.agents)) % CUES

    def _judge(self, actions: np.ndarray) -> np.ndarray:
        """1 for each agent ``[E, A]`` that is right."""
        return (actions == self.heuristic()).astype(np.float32)

    def _reward(self) -> np.ndarray:
        return self._right.min(axis=1)

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
        self._right = self._judge(actions)
        reward = self._reward()
        self._elapsed = self._elapsed + 1
        ended = self._elapsed >= self._lengths
        never = np.zeros_like(ended)
        terminated, truncated = (ended, never) if self.terminates else (never, ended)
        return Step(self._observations(), reward, terminated, truncated)

    def state(self) -> np.ndarray:
        elapsed = (self._elapsed / self.spec.horizon).astype(np.float32)
        return np.concatenate([self._observations()[:, 0], elapsed[:, None]], axis=1)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        every = {"right_share": self._right.mean(axis=1), "right": self._right.copy()}
        return {name: every[name] for name in (every if names is None else names)}

    def progress(self) -> np.ndarray:
        return self._right.mean(axis=1)

    def draw(self, environment: int) -> Picture:
        """A disc per agent, on a square where it was right in the last step."""
        squares = (
            Shape("square", agent + 0.5, 0.5, 0.5, "done" if right else "floor")
            for agent, right in enumerate(self._right[environment])
        )
        discs = (Shape("disc", agent + 0.5, 0.5, 0.3, "agent", str(agent)) for agent in range(self.spec.agents))
        return Picture(float(self.spec.agents), 1.0, (*squares, *discs), f"step {self._elapsed[environment]}")


class Recall(Cue):
    """A cue is seen at the first step only and asked for at the last: reward 1 when all agents are right then.

    Only who remembers can tell; anybody else earns at most ``1 / 3`` per episode.
    """

    def __init__(self, environments: int, horizon: int = 3) -> None:
        super().__init__(environments, horizon=horizon)
        self.spec = replace(
            self.spec,
            name="recall",
            description="Remember a cue and answer it at the end.",
            sparse_reward="1 at the end if every agent is right",
            observation_size=CUES + 1,
            max_return=1.0,
        )

    def _cues(self) -> np.ndarray:
        return (uniforms(self._seeds, 1)[:, 0] * CUES).astype(np.int64)

    def _observations(self) -> np.ndarray:
        seen = np.zeros((self.environments, self.spec.agents, CUES + 1), np.float32)
        seen[..., :CUES] = super()._observations() * (self._elapsed == 0)[:, None, None]
        seen[..., CUES] = self._asked()[:, None]
        return seen

    def _asked(self) -> np.ndarray:
        return self._elapsed == self.spec.horizon - 1

    def _reward(self) -> np.ndarray:
        return self._right.min(axis=1) * self._asked().astype(np.float32)

    def state(self) -> np.ndarray:
        one_hot = np.eye(CUES, dtype=np.float32)[self._cues()]
        return np.concatenate([one_hot, (self._elapsed / self.spec.horizon).astype(np.float32)[:, None]], axis=1)


class Number(Cue):
    """Answers are numbers, right within ``TOLERANCE``: one agent must answer (cue, -cue), the other -cue.

    Reward: the share of agents that are right. Nobody who ignores the cue, a number in [-0.8, 0.8], earns more than
    3 / 8 of what can be had.
    """

    TOLERANCE = 0.3

    def __init__(self, environments: int, **changes: bool) -> None:
        super().__init__(environments, **changes)
        self.spec = replace(
            self.spec,
            name="number",
            description="Answer a number with numbers.",
            sparse_reward="share of agents that are right, at every step",
            observation_size=1,
            state_size=2,
            actions=2,
            action_names=("first", "second"),
            continuous=True,
            groups=(Group("pair", (0,), 1, 2), Group("single", (1,), 1, 1)),
        )

    def _cues(self) -> np.ndarray:
        draws = uniforms(self._seeds, self.spec.horizon + 2)
        return (draws[np.arange(self.environments), self._elapsed] * 1.6 - 0.8).astype(np.float32)

    def _observations(self) -> np.ndarray:
        return np.repeat(self._cues()[:, None, None], self.spec.agents, axis=1)

    def heuristic(self) -> np.ndarray:
        """``[E, 2, 2]``; what the second agent's second number is does not matter."""
        cues = self._cues()
        return np.stack([np.stack([cues, -cues], axis=1), np.stack([-cues, np.zeros_like(cues)], axis=1)], axis=1)

    def _judge(self, actions: np.ndarray) -> np.ndarray:
        if actions.dtype != np.float32 or np.abs(actions).max() > 1:
            raise ValueError("number got actions that are not float32 in [-1, 1].")
        near = np.abs(actions - self.heuristic()) <= self.TOLERANCE
        near[:, 1, 1] = True
        return near.all(axis=2).astype(np.float32)

    def _reward(self) -> np.ndarray:
        return self._right.mean(axis=1)


class Crew(Cue):
    """Two kinds of agents, in the order reader, caller, reader; reward 1 when all who are there are right.

    Readers see 3 numbers and have 3 actions, as in ``Cue``; the caller sees 2 more, a cue of its own, and must answer
    that with one of its 2 actions. With ``leaving`` the caller and the second reader leave after some of the steps
    (set by the seed); they then see zeros, and what they are told to do does not matter.
    """

    def __init__(self, environments: int, leaving: bool = False, **changes: bool) -> None:
        super().__init__(environments, agents=3, **changes)
        self.spec = replace(
            self.spec,
            name="crew",
            description="Answer a common cue and, one agent, a cue of its own.",
            sparse_reward="1 per step in which every agent that is there is right",
            observation_size=CUES + 2,
            state_size=CUES + 5,
            groups=(Group("readers", (0, 2), CUES, 3), Group("caller", (1,), CUES + 2, 2)),
            agents_leave=leaving,
        )

    def _calls(self) -> np.ndarray:
        draws = uniforms(self._seeds, self.spec.horizon + 2, stream=7)
        return (draws[np.arange(self.environments), self._elapsed] * 2).astype(np.int64)

    def _alive(self) -> np.ndarray:
        stay = np.full((self.environments, 3), self.spec.horizon + 1)
        if self.spec.agents_leave:
            stay[:, 1:] = 1 + (uniforms(self._seeds, 2, stream=8) * self.spec.horizon).astype(np.int64)
        return self._elapsed[:, None] < stay

    def _observations(self) -> np.ndarray:
        seen = np.zeros((self.environments, 3, CUES + 2), np.float32)
        seen[..., :CUES] = np.eye(CUES, dtype=np.float32)[self._cues()][:, None]
        seen[:, 1, CUES:] = np.eye(2, dtype=np.float32)[self._calls()]
        return seen * self._alive()[..., None]

    def heuristic(self) -> np.ndarray:
        cues = self._cues()
        return np.stack([cues, self._calls(), (cues + 1) % CUES], axis=1)

    def _judge(self, actions: np.ndarray) -> np.ndarray:
        if (actions < 0).any() or (actions >= [3, 2, 3]).any():
            raise ValueError("crew got an action that its agent does not have.")
        return np.where(self._alive(), super()._judge(actions), 1.0).astype(np.float32)

    def step(self, actions: np.ndarray) -> Step:
        step = super().step(actions)
        return step._replace(alive=self._alive()) if self.spec.agents_leave else step

    def state(self) -> np.ndarray:
        cue, call = np.eye(CUES, dtype=np.float32)[self._cues()], np.eye(2, dtype=np.float32)[self._calls()]
        elapsed = (self._elapsed / self.spec.horizon).astype(np.float32)
        return np.concatenate([cue, call, elapsed[:, None], self._alive()[:, 1:]], axis=1, dtype=np.float32)


def make_sanity_task(name: str, environments: int) -> Cue:
    """Stands in for ``make_task``: ``"cue"``, ``"recall"``, ``"number"``, ``"crew"`` or ``"crew-leaving"``.

    ``"-varied"`` (truncated) or ``"-varied-terminates"`` may follow; recall takes neither.
    """
    if name == "recall":
        return Recall(environments)
    base, *options = name.split("-")
    kinds = {"cue": Cue, "number": Number, "crew": Crew}
    return kinds[base](environments, **dict.fromkeys(options, True))

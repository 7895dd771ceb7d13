"""A task of errands in three parts that follow one another, which no rule was written for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from learning_signal.marl.randomness import uniforms
from learning_signal.marl.tasks.base import Feature, Step, TaskSpec
from learning_signal.marl.tasks.picture import Picture, Shape

MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
PARTS = ("red", "green", "blue")


class Errands:
    """Two agents on a board of ``SIZE`` x ``SIZE`` cells, each with its own errand: a red, a green and a blue cell.

    They count in this order alone. Reward 1 whenever an agent comes to its blue cell after the others; then it has a
    new errand. The distance to a cell is the largest one until the cell before it has been reached, and 0 afterwards.
    """

    SIZE = 6

    def __init__(self, environments: int, horizon: int = 80) -> None:
        self.environments, self.agents = environments, 2
        far = 2.0 * (self.SIZE - 1)
        self.spec = TaskSpec(
            name="errands",
            description="Go to a red, a green and a blue cell, in this order, again and again.",
            sparse_reward="1 for each agent that comes to its blue cell last",
            agents=self.agents,
            observation_size=2 + 3 * len(PARTS),
            state_size=self.agents * (2 + 3 * len(PARTS)),
            actions=len(MOVES),
            action_names=("stay", "right", "left", "up", "down"),
            idle_action=0,
            horizon=horizon,
            max_return=self.agents * horizon / len(PARTS),
            features=(
                *(Feature(f"{part}_steps", f"Steps to the {part} cell.", "agent", 0.0, far, "lower") for part in PARTS),
                Feature("apart", "Steps between the agents.", "team", 0.0, far, None),
            ),
            progress="mean over the agents of the share of the parts reached in their errand",
        )
        self._seeds = np.zeros(environments, np.uint64)
        self._elapsed = np.zeros(environments, np.int64)
        self._cells = np.zeros((environments, self.agents, 2), np.int64)
        self._goals = np.zeros((environments, self.agents, len(PARTS), 2), np.int64)
        self._part = np.zeros((environments, self.agents), np.int64)
        self._errands = np.zeros((environments, self.agents), np.int64)

    def _drawn(self, shape: tuple[int, ...], stream: int) -> np.ndarray:
        draws = uniforms(self._seeds, int(np.prod(shape)), stream=stream)
        return (draws * self.SIZE).astype(np.int64).reshape(self.environments, *shape)

    def _new_errands(self, where: np.ndarray) -> None:
        """New cells for the agents ``where`` ``[E, A]``; each errand of an episode has its own stream."""
        for number in np.unique(self._errands[where]):
            these = where & (self._errands == number)
            self._goals[these] = self._drawn((self.agents, len(PARTS), 2), 1 + int(number))[these]
        self._part[where] = 0

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        where = np.ones(self.environments, bool) if where is None else where
        self._seeds = np.where(where, seeds, self._seeds)
        self._elapsed[where] = 0
        self._errands[where] = 0
        self._cells[where] = self._drawn((self.agents, 2), 0)[where]
        self._new_errands(np.repeat(where[:, None], self.agents, axis=1))
        return self._observations()

    def step(self, actions: np.ndarray) -> Step:
        self._cells = np.clip(self._cells + MOVES[actions], 0, self.SIZE - 1)
        goal = np.take_along_axis(self._goals, self._part[..., None, None], axis=2)[:, :, 0]
        self._part += (goal == self._cells).all(axis=2)
        done = self._part == len(PARTS)
        self._errands += done
        self._new_errands(done)
        self._elapsed += 1
        ended = self._elapsed >= self.spec.horizon
        reward = done.sum(axis=1).astype(np.float32)
        return Step(self._observations(), reward, np.zeros_like(ended), ended)

    def _observations(self) -> np.ndarray:
        toward = (self._goals - self._cells[:, :, None]) / self.SIZE  # [E, A, parts, 2]
        due = np.arange(len(PARTS)) == self._part[..., None]
        seen = [self._cells / self.SIZE, toward.reshape(self.environments, self.agents, -1), due]
        return np.concatenate(seen, axis=2).astype(np.float32)

    def state(self) -> np.ndarray:
        return self._observations().reshape(self.environments, -1)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        steps = np.abs(self._goals - self._cells[:, :, None]).sum(axis=3)
        every = {}
        for index, part in enumerate(PARTS):
            values = np.where(self._part > index, 0, np.where(self._part < index, 2 * self.SIZE - 2, steps[..., index]))
            every[f"{part}_steps"] = values.astype(np.float32)
        every["apart"] = np.abs(self._cells[:, 0] - self._cells[:, 1]).sum(axis=1).astype(np.float32)
        return {name: every[name] for name in (every if names is None else names)}

    def progress(self) -> np.ndarray:
        return (self._part / len(PARTS)).mean(axis=1).astype(np.float32)

    def heuristic(self) -> np.ndarray:
        """Along the rows first, then along the columns, to the cell that is due."""
        goal = np.take_along_axis(self._goals, self._part[..., None, None], axis=2)[:, :, 0]
        right, up = np.moveaxis(goal - self._cells, 2, 0)
        across = np.where(right > 0, 1, 2)
        return np.where(right != 0, across, np.where(up > 0, 3, np.where(up < 0, 4, 0)))

    def draw(self, environment: int) -> Picture:
        """A disc per agent."""
        places = enumerate(self._cells[environment] + 0.5)
        discs = tuple(Shape("disc", float(x), float(y), 0.3, "agent", str(agent)) for agent, (x, y) in places)
        return Picture(float(self.SIZE), float(self.SIZE), discs, f"step {self._elapsed[environment]}")


def make_errands(name: str, environments: int) -> Errands:
    """Stands in for ``make_task``, for the name ``errands``."""
    return Errands(environments)

"""Copies of a foreign environment stepped one after another in this process, as one batch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from learning_signal.marl.tasks.base import Step
from learning_signal.marl.tasks.foreign.declaration import Source
from learning_signal.marl.tasks.foreign.layout import Layout
from learning_signal.marl.tasks.foreign.member import Member
from learning_signal.marl.tasks.picture import Picture, Shape


class Batch:
    """``count`` copies in this process."""

    def __init__(self, source: Source, count: int, first: Member | None = None) -> None:
        first = first or Member(source)
        self.layout = layout = first.layout
        self._source = source
        self._members = [first, *(Member(source, layout) for _ in range(count - 1))]
        self._agents = len(layout.agents)
        self._observations = np.zeros((count, self._agents, layout.observation_size), np.float32)
        self._real = np.arange(layout.observation_size) < np.array([[agent.size] for agent in layout.agents])
        """``[A, O]``: which numbers of a row are an agent's own."""
        self._bounds = layout.component_bounds()

    def reset(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Start episodes where ``where [n]`` says; observations ``[n, A, O]`` of all."""
        observations = self._observations.copy()
        observations[where] = 0
        for index in np.flatnonzero(where):
            self._members[index].reset(seeds[index], observations[index])
        self._observations = observations
        return observations

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions to every copy."""
        count = len(self._members)
        observations, alive = np.zeros_like(self._observations), np.zeros((count, self._agents), bool)
        reward, terminated, truncated = np.zeros(count, np.float32), np.zeros(count, bool), np.zeros(count, bool)
        for index, member in enumerate(self._members):
            reward[index], terminated[index], truncated[index] = member.step(
                actions[index], observations[index], alive[index]
            )
        self._observations = observations
        return Step(observations, reward, terminated, truncated, alive)

    def state(self) -> np.ndarray:
        """``[n, S]`` float32: the environment's own, else the observations without padding."""
        if self.layout.own_state:
            return np.stack([member.own_state() for member in self._members])
        return self._observations[:, self._real]

    def features(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """The features in ``names``, float32."""
        declared = {feature.name: feature for feature in self._source.task.features}
        return {
            name: np.array([member.feature(declared[name]) for member in self._members], np.float32)
            if declared
            else self._component(int(name.rpartition("_")[2]))
            for name in names
        }

    def _component(self, number: int) -> np.ndarray:
        """``observation_3`` of every agent ``[n, A]``, within its bounds."""
        low, high, _ = self._bounds
        return np.clip(self._observations[:, :, number], low[number], high[number])

    def allowed(self) -> np.ndarray:
        """What each agent may do, ``[n, A, actions]`` bool."""
        return np.stack([member.allowed for member in self._members])

    def progress(self) -> np.ndarray:
        """``[n]`` float32."""
        return np.array([member.progress() for member in self._members], np.float32)

    def heuristic(self) -> np.ndarray:
        """Joint actions ``[n, A]`` int64 or ``[n, A, D]`` float32."""
        shape = (len(self._members), self._agents)
        actions: np.ndarray = np.zeros(shape, np.int64)
        if self.layout.continuous:
            actions = np.zeros((*shape, self.layout.actions), np.float32)
        for member, row in zip(self._members, actions, strict=True):
            member.heuristic(row)
        return actions

    def draw(self, index: int) -> Picture:
        """The declared drawing, the environment's own rendering, or the agents' observations as a chart."""
        member = self._members[index]
        declared = member.picture()
        if declared is not None:
            return declared
        pixels = member.pixels()
        if pixels is not None:
            height, width, _ = pixels.shape
            return Picture(width, height, caption=member.caption(), pixels=pixels)
        return _chart(self.layout, self._observations[index], member.caption())

    def close(self) -> None:
        """Close every copy."""
        for member in self._members:
            member.close()


def _chart(layout: Layout, rows: np.ndarray, caption: str) -> Picture:
    """Observations as squares, a row per agent: the larger the number within its bounds, the larger the square."""
    shown = min(rows.shape[1], 24)
    low, high, _ = layout.component_bounds()
    shares = (np.clip(rows, low, high) - low) / (high - low)
    shapes = []
    for place, agent in enumerate(layout.agents):
        shapes.append(Shape("disc", 0.5, place + 0.5, 0.4, "agent", str(place)))
        for number in range(min(shown, agent.size)):
            size = 0.05 + 0.4 * float(shares[place, number])
            shapes.append(Shape("square", number + 1.5, place + 0.5, size, "other"))
    caption = f"{caption}: the first {shown} numbers that each agent sees, large squares are large numbers"
    return Picture(shown + 1.0, float(len(layout.agents)), tuple(shapes), caption)

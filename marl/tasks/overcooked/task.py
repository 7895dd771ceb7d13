"""The task `overcooked`: two cooks make onion soup; the kitchens of `overcooked-ai` for a whole batch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from learning_signal.marl.tasks.base import Ground, Step
from learning_signal.marl.tasks.clock import Clock
from learning_signal.marl.tasks.overcooked.features import ACTION_NAMES, FEATURE_VALUES, HORIZON, specification, stage
from learning_signal.marl.tasks.overcooked.layout import AGENTS, FLOOR, SIGNS, Layout, layout_of
from learning_signal.marl.tasks.overcooked.policy import scripted
from learning_signal.marl.tasks.overcooked.state import (
    COOKING_TIME,
    FULL,
    ITEMS,
    POT_ONIONS,
    POT_READY,
    POT_STARTED,
    POT_TICKS,
    SOUP_REWARD,
    Kitchens,
)
from learning_signal.marl.tasks.picture import Colour, Picture, Shape

ITEM_SIGNS = ("", "o", "d", "s", "t")
"""Nothing, onion, dish, soup, thin soup."""


class Overcooked:
    """A batch of ``environments`` kitchens of overcooked-ai 1.1, called ``layout`` there (a `Task`).

    Every episode starts alike: cooks at their places, nothing in pots and hands. An agent observes everything: of
    itself, then of the other, on which of the ``F`` floor cells it is (row by row), its direction (4: north, south,
    east, west), which item it holds (4: onion, dish, soup of three onions, thin soup) and what it faces (6: floor,
    counter, onions, dishes, pot, serving cell); then of every pot its onions (of 3), whether it was started, how long
    it has cooked (of 20 steps) and whether it is ready; then of every counter within reach the item on it (4). The
    joint state is what the first agent observes.

    Raises ``ValueError`` for a layout that there is not.
    """

    def __init__(self, environments: int, layout: str = "cramped_room") -> None:
        self._clock = Clock("overcooked", environments, HORIZON)
        self.environments = environments
        self.layout = kitchen = layout_of(layout)
        self._cooks = _cooks(kitchen)
        rest = 4 * (len(kitchen.pots) + len(kitchen.counters))
        size = AGENTS * self._cooks.shape[1] + rest
        self.spec = specification(kitchen, size, size)
        self.ground = Ground(columns=kitchen.width, rows=kitchen.height, cell=1.0, plane=False)
        self.kitchens = Kitchens(environments, kitchen)
        self._furthest = np.zeros(environments, np.float32)
        """``[E]``: the largest progress of this episode."""
        self._delivered = np.zeros(environments, np.int64)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes, all alike; observations ``[E, A, O]`` of all."""
        started = self._clock.start(np.asarray(seeds), where)
        self.kitchens.start(started)
        self._furthest[started], self._delivered[started] = 0.0, 0
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._clock.check(actions, AGENTS, len(ACTION_NAMES))
        truncated = self._clock.tick()
        reward = self.kitchens.step(actions)
        delivered = (reward / SOUP_REWARD).astype(np.int64)
        self._delivered += delivered
        self._furthest = np.maximum(self._furthest, np.where(delivered > 0, 1.0, stage(self.kitchens)))
        return Step(self._observe(), reward, np.zeros(self.environments, bool), truncated)

    def state(self) -> np.ndarray:
        """The joint state ``[E, S]`` float32, as the class docstring describes it."""
        cooks = self._seen()
        return np.concatenate([cooks[0], cooks[1], self._things()], axis=1)

    def progress(self) -> np.ndarray:
        """How far the best soup ever came ``[E]`` float32 (``spec.progress``)."""
        return self._furthest.astype(np.float32)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        chosen = [feature.name for feature in self.spec.features] if names is None else names
        return {name: FEATURE_VALUES[name](self.kitchens).T.astype(np.float32) for name in chosen}

    def places(self, agent: int) -> np.ndarray:
        """See `GroundedTask`."""
        y, x = np.divmod(self.kitchens.place[agent], self.layout.width)
        return np.stack([x, y], axis=1) + 0.5

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `GroundedTask`: an agent can be on all floor where the other is not."""
        x, y = places.T.astype(np.int64)
        with self.kitchens.elsewhere(agent, y * self.layout.width + x) as free:
            return self.features(names), free

    def heuristic(self) -> np.ndarray:
        """Joint actions ``[E, A]`` of `marl.tasks.overcooked.policy.scripted`."""
        return scripted(self.kitchens)

    def draw(self, environment: int) -> Picture:
        """The kitchen: O onions, D dishes, S serving cells, pots with their onions and time, agents as arrows."""
        layout, shapes = self.layout, []
        for cell in range(layout.cells):
            shapes += self._drawn(environment, cell)
        for agent in range(AGENTS):
            y, x = divmod(int(self.kitchens.place[agent, environment]), layout.width)
            arrow = "^v><"[self.kitchens.facing[agent, environment]]
            held = ITEM_SIGNS[self.kitchens.held[agent, environment]]
            shapes.append(Shape("disc", x + 0.5, y + 0.5, 0.36, "agent", arrow + held))
        caption = f"step {self._clock.elapsed[environment]}, {self._delivered[environment]} delivered"
        return Picture(layout.width, layout.height, tuple(shapes), caption)

    def _drawn(self, environment: int, cell: int) -> list[Shape]:
        """A cell and what lies in it."""
        kind, content = int(self.layout.kind[cell]), int(self.kitchens.content[environment, cell])
        row, column = divmod(cell, self.layout.width)
        x, y = column + 0.5, row + 0.5
        if kind == FLOOR:
            return [Shape("square", x, y, 0.5, "floor")]
        sign = SIGNS[kind]
        if sign == "X":
            wall = Shape("square", x, y, 0.5, "wall")
            return [wall, Shape("disc", x, y, 0.3, "floor", ITEM_SIGNS[content])] if content else [wall]
        if sign != "P":
            return [Shape("square", x, y, 0.5, "wall"), Shape("square", x, y, 0.42, "goal", sign)]
        onions, ticks = int(POT_ONIONS[content]), int(POT_TICKS[content])
        label = f"{onions}:{ticks}" if POT_STARTED[content] else str(onions)
        colour: Colour = "done" if POT_READY[content] and onions == FULL else "other"
        return [Shape("square", x, y, 0.5, "wall"), Shape("square", x, y, 0.42, colour, label)]

    def _seen(self) -> np.ndarray:
        """``[A, E, *]`` float32: what is seen of each cook."""
        kitchens = self.kitchens
        place = self.layout.number.take(kitchens.place)
        return self._cooks.take((place * 4 + kitchens.facing) * ITEMS + kitchens.held, axis=0)

    def _things(self) -> np.ndarray:
        """``[E, *]`` float32: what is seen of pots and counters."""
        pots = _POT_SEEN.take(self.kitchens.in_pots, axis=0).reshape(self.environments, -1)
        counters = _ITEM_SEEN.take(self.kitchens.on_counters, axis=0).reshape(self.environments, -1)
        return np.concatenate([pots, counters], axis=1)

    def _observe(self) -> np.ndarray:
        """Observations ``[E, A, O]``, see the class docstring."""
        cooks, things = self._seen(), self._things()
        size = cooks.shape[2]
        observations = np.empty((self.environments, AGENTS, self.spec.observation_size), np.float32)
        for agent in range(AGENTS):
            observations[:, agent, :size] = cooks[agent]
            observations[:, agent, size : 2 * size] = cooks[1 - agent]
            observations[:, agent, 2 * size :] = things
        return observations


_ITEM_SEEN = np.eye(ITEMS, dtype=np.float32)[:, 1:]
_POT_SEEN = np.stack([POT_ONIONS / FULL, POT_STARTED, POT_TICKS / COOKING_TIME, POT_READY], axis=1).astype(np.float32)


def _cooks(layout: Layout) -> np.ndarray:
    """``[F * 4 * ITEMS, *]`` float32: what is seen of a cook, by its floor cell, direction and item."""
    floor, facing, held = (axis.ravel() for axis in np.indices((len(layout.floor), 4, ITEMS)))
    ahead = layout.kind[layout.floor[floor] + layout.steps[facing]]
    parts = [np.eye(len(layout.floor))[floor], np.eye(4)[facing], _ITEM_SEEN[held], np.eye(len(SIGNS))[ahead]]
    return np.concatenate(parts, axis=1).astype(np.float32)

"""The task `warehouse`: robots bring requested shelves to the goals; rware's ``Warehouse`` for a whole batch.

Rules, observations, rewards and the time limit are those of the ids
``rware-{tiny,small,medium,large}-{N}ag[-easy|-hard]-v2`` of rware 2.0, whose observations are flat vectors.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from learning_signal.marl.randomness import uniforms
from learning_signal.marl.tasks.base import Ground, Step
from learning_signal.marl.tasks.clock import Clock
from learning_signal.marl.tasks.picture import Picture, Shape
from learning_signal.marl.tasks.warehouse.features import (
    ACTION_NAMES,
    FEATURE_VALUES,
    HORIZON,
    delivery_progress,
    specification,
)
from learning_signal.marl.tasks.warehouse.layout import layout_of
from learning_signal.marl.tasks.warehouse.policy import scripted
from learning_signal.marl.tasks.warehouse.state import (
    AGENT,
    CARGO,
    FACING,
    HELD,
    REQUESTED,
    ROBOT,
    SHELF,
    SLOT,
    WarehouseState,
)
from learning_signal.marl.tasks.warehouse.traffic import granted

_, FORWARD, LEFT, RIGHT, TOGGLE = range(len(ACTION_NAMES))

OWN, SIGHT, PER_CELL = 8, 9, 7
"""An observation: numbers about the agent itself, cells it sees, numbers about each of them."""

_TURNED = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [2, 3, 1, 0], [3, 2, 0, 1], [0, 1, 2, 3]], dtype=np.uint16) << FACING
"""The direction after each action, from each direction."""


class Warehouse:
    """A batch of ``environments`` warehouses of the reference task ``id`` (a `Task`).

    The observation of an agent, as in the reference: its column and row, whether it holds a shelf, its direction
    (4: up, down, left, right), whether it is on a highway; then for each of the 3 x 3 cells around it, row by row,
    whether an agent is there, that agent's direction (4; up where there is none), whether a shelf is there and
    whether it is requested.

    The joint state ``[E, 8 A + 2 N]``: of every agent its column and row (from 0 to 1), direction (4), whether it
    holds a shelf and whether a requested one; of every slot whether a shelf stands on it and whether a requested one.

    Raises ``ValueError`` when an argument is out of its range.
    """

    def __init__(self, environments: int, id: str = "rware-tiny-2ag-easy-v2") -> None:
        self._clock = Clock("warehouse", environments, HORIZON)
        self.environments = environments
        self.layout = layout = layout_of(id)
        self.spec = specification(id, layout, OWN + SIGHT * PER_CELL)
        agents = layout.agents
        self.world = WarehouseState(environments, layout)
        self.ground = Ground(columns=layout.width, rows=layout.height, cell=1.0, plane=False)
        self._goals = self.world.base.T + layout.goals[:, None]
        self._seeds = np.zeros(environments, dtype=np.uint64)
        self._delivered = np.zeros(environments, dtype=np.int64)
        self._best_delivery = np.zeros((environments, agents))
        """``[E, A]``: the largest delivery progress of each agent in this episode."""
        self._claims = np.zeros(self.world.flat.size, dtype=np.uint8)
        self._numbers = np.arange(agents)
        self._around = (np.array([[-1], [0], [1]]) * layout.stride + np.array([-1, 0, 1])).reshape(-1)
        self._columns_rows = np.stack([layout.x, layout.y], axis=1).astype(np.float32)
        self._seen = _seen(agents)

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes: a shelf on every slot, agents and requests anywhere; observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        started = self._clock.start(seeds, where)
        layout, agents, floor = self.layout, self.spec.agents, len(self.layout.floor)
        draws = uniforms(seeds[started], floor + len(layout.slots) + agents)
        rows = np.arange(len(draws))[:, None]
        start = layout.floor[np.argsort(draws[:, :floor], axis=1)[:, :agents]]
        requested = layout.slots[np.argsort(draws[:, floor:-agents], axis=1)[:, : layout.requests]]
        cells = np.tile(self.world.bare, (len(draws), 1))
        cells[:, layout.slots] |= SHELF
        cells[rows, requested] |= REQUESTED
        cells[rows, start] |= ((4 * draws[:, -agents:]).astype(np.int64) << FACING) | (self._numbers + 1 << AGENT)
        self.world.cells[started] = cells
        self.world.index[started] = self.world.base[started] + start
        self.world.here = self.world.flat.take(self.world.index)
        self._seeds[started] = seeds[started]
        self._delivered[started] = 0
        self._best_delivery[started] = delivery_progress(self.world)[started]
        return self._observe()

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (see ``spec.action_names``); the arrays returned are never reused.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._clock.check(actions, self.spec.agents, len(ACTION_NAMES))
        truncated = self._clock.tick()
        self._act(actions)
        reward = self._deliver()
        self.world.here = self.world.flat.take(self.world.index)
        np.maximum(self._best_delivery, delivery_progress(self.world), out=self._best_delivery)
        return Step(self._observe(), reward, np.zeros(self.environments, dtype=bool), truncated)

    def state(self) -> np.ndarray:
        """The joint state ``[E, 8 A + 2 N]`` float32, in the order given in the class docstring."""
        layout, agents, load = self.layout, self.spec.agents, self.world.load
        state = np.empty((self.environments, self.spec.state_size), dtype=np.float32)
        robots = state[:, : 8 * agents].reshape(self.environments, agents, 8)
        extent = np.array([layout.width - 1, layout.height - 1], dtype=np.float32)
        robots[..., :2] = self._columns_rows.take(self.world.place, axis=0) / extent
        robots[..., 2:6] = self.world.facing[..., None] == np.arange(4)
        robots[..., 6] = load > 0
        robots[..., 7] = load == 2
        slots = self.world.cells.take(layout.slots, axis=1) & CARGO
        state[:, 8 * agents :: 2] = (slots == SHELF) | (slots == SHELF | REQUESTED)
        state[:, 8 * agents + 1 :: 2] = slots == SHELF | REQUESTED
        return state

    def progress(self) -> np.ndarray:
        """Mean over the agents ``[E]`` float32 of their largest delivery progress (``spec.progress``)."""
        return self._best_delivery.mean(axis=1).astype(np.float32)

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        chosen = [feature.name for feature in self.spec.features] if names is None else names
        return {name: FEATURE_VALUES[name](self.world).astype(np.float32) for name in chosen}

    def places(self, agent: int) -> np.ndarray:
        """See `GroundedTask`."""
        return self._columns_rows.take(self.world.place[:, agent], axis=0) + 0.5

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `GroundedTask`: an agent can be in every cell without another; with a shelf, in those without a shelf."""
        x, y = places.T.astype(np.int64)
        place = (y + 1) * self.layout.stride + x + 1
        with self.world.elsewhere(agent, place) as free:
            return self.features(names), free

    def heuristic(self) -> np.ndarray:
        """Joint actions ``[E, A]`` of `marl.tasks.warehouse.policy.scripted`."""
        return scripted(self.world)

    def draw(self, environment: int) -> Picture:
        """The floor: shelves, requested ones in the colour of a goal, goals marked G, agents as arrows."""
        layout, shapes = self.layout, []
        for cell in layout.floor:
            x, y, content = layout.x[cell] + 0.5, layout.y[cell] + 0.5, int(self.world.cells[environment, cell])
            shapes.append(Shape("square", x, y, 0.5, "floor", "G" * (cell in layout.goals)))
            if content & SHELF:
                shapes.append(Shape("square", x, y, 0.44, "goal" if content & REQUESTED else "wall"))
            if content >> AGENT:
                shapes.append(Shape("disc", x, y, 0.32, "agent", "^v<>"[content >> FACING & 3]))
        held = int((self.world.load[environment] == 2).sum())
        caption = f"{self._delivered[environment]} delivered, {held} of {layout.requests} requested shelves held"
        return Picture(layout.width, layout.height, tuple(shapes), caption)

    # --- the rules ---

    def _act(self, actions: np.ndarray) -> None:
        """Drive, turn, lift and put down, as the reference's ``Warehouse.step`` does."""
        here, target = self.world.here, self._targets(actions == FORWARD)
        leaving = here & np.where(here & HELD, np.uint16(ROBOT | CARGO), np.uint16(ROBOT))
        self.world.flat[self.world.index] = here ^ leaving
        turned = _TURNED.take(4 * actions + self.world.facing)
        content = self.world.flat.take(target) | (leaving & ~np.uint16(3 << FACING)) | turned
        toggled = (actions == TOGGLE) & ((content & (SHELF | SLOT)) == SHELF | SLOT)
        content ^= HELD * toggled.astype(np.uint16)
        self.world.flat[target] = content
        self.world.index = target

    def _targets(self, forward: np.ndarray) -> np.ndarray:
        """Where the agents are after this step ``[E, A]``, as indices into ``_flat``."""
        ahead, shut = self.world.ahead()
        ahead += self.world.base
        moves = forward & ~shut
        target = np.where(moves, ahead, self.world.index)
        occupant = self.world.flat.take(target) >> AGENT
        self._claims[target] = self._numbers
        meets = moves & ((occupant != 0) | (self._claims.take(target) != self._numbers))
        rows = np.flatnonzero(meets.any(axis=1))
        if rows.size:
            # `granted` calls nobody A, not 0.
            others = np.where(occupant[rows] == 0, self.spec.agents, occupant[rows].astype(np.int64) - 1)
            may = granted(target[rows], others)
            target[rows] = np.where(may, target[rows], self.world.index[rows])
        return target

    def _deliver(self) -> np.ndarray:
        """The team reward ``[E]`` float32: 1 for every requested shelf on a goal, for which another is requested."""
        reward = np.zeros(self.environments, dtype=np.float32)
        for number, goal in enumerate(self._goals):
            rows = np.flatnonzero(self.world.flat.take(goal) & REQUESTED)
            if rows.size:
                self._best_delivery[rows, (self.world.flat.take(goal[rows]) >> AGENT) - 1] = 1.0
                self._request_another(rows, number)
                reward[rows] += 1
        self._delivered += reward.astype(np.int64)
        return reward

    def _request_another(self, rows: np.ndarray, goal: int) -> None:
        """The shelf on ``goal`` is delivered: one of those not requested is requested instead, each as likely."""
        candidates = np.flatnonzero((self.world.cells[rows] & (SHELF | REQUESTED)) == SHELF).reshape(len(rows), -1)
        draws = uniforms(self._seeds[rows], len(self._goals), stream=self._clock.elapsed[rows])[:, goal]
        chosen = candidates[np.arange(len(rows)), (draws * candidates.shape[1]).astype(np.int64)]
        self.world.cells[rows, self.layout.goals[goal]] ^= REQUESTED
        self.world.cells[rows, chosen % self.layout.cells] ^= REQUESTED

    def _observe(self) -> np.ndarray:
        observations = np.empty((self.environments, self.spec.agents, OWN + SIGHT * PER_CELL), dtype=np.float32)
        around = self.world.flat.take(self.world.index[..., None] + self._around)
        seen = self._seen.take(around, axis=0)
        observations[..., OWN:] = seen.reshape(*self.world.index.shape, -1)
        observations[..., :2] = self._columns_rows.take(self.world.place, axis=0)
        observations[..., 2] = (self.world.here & HELD) != 0
        observations[..., 3:7] = seen[..., SIGHT // 2, 1:5]
        observations[..., 7] = (self.world.here & SLOT) == 0
        return observations


def _seen(agents: int) -> np.ndarray:
    """What an agent sees in a cell ``[*, 7]`` float32, by the bits of that cell."""
    content = np.arange(agents + 1 << AGENT)
    direction = (content >> FACING & 3)[:, None] == np.arange(4)
    return np.concatenate(
        [(content >> AGENT != 0)[:, None], direction, (content & np.array([[SHELF], [REQUESTED]]) != 0).T], axis=1
    ).astype(np.float32)

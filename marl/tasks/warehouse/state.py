"""What is where in a batch of warehouses: what the features, the scripted policy and the rules of `warehouse` read.

The world is one array ``[E, P]`` of 16-bit cells (`marl.tasks.warehouse.layout` numbers them). The bits of a cell say
what is in it: a shelf, whether it is requested, whether an agent holds it, a wall, a slot, and from `FACING` up the
direction and the number of an agent. Which shelf is which does not matter to the rules, so nothing tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from learning_signal.marl.tasks.warehouse.layout import Layout

SHELF, REQUESTED, HELD, WALL, SLOT = 1, 2, 4, 8, 16
CARGO = SHELF | REQUESTED | HELD
FACING, AGENT = 5, 7
"""Where the direction (2 bits: up, down, left, right) and the number of an agent (from 1; 0 is nobody) begin."""
ROBOT = 0xFFFF >> FACING << FACING
"""The bits of an agent: its direction and its number."""

_LOAD = np.array([0, 0, 0, 0, 0, 1, 0, 2])
"""What an agent holds, by the `CARGO` bits of its cell."""


class WarehouseState:
    """The cells and agents of ``environments`` warehouses; the rules in ``Warehouse`` change its arrays in place."""

    def __init__(self, environments: int, layout: Layout) -> None:
        self.environments, self.layout = environments, layout
        self.bare = SLOT * np.isin(np.arange(layout.cells), layout.slots) + WALL * layout.wall
        """``[P]``: what is in the cells of an empty warehouse."""
        self.cells = np.tile(self.bare.astype(np.uint16), (environments, 1))
        """``[E, P]``: what is in every cell."""
        self.flat = self.cells.reshape(-1)
        """``[E * P]``: the same memory."""
        self.base = np.arange(environments)[:, None] * layout.cells
        """``[E, 1]``: what to add to the number of a cell for its index in ``flat``."""
        self.index = self.base + layout.floor[: layout.agents]
        """``[E, A]``: where the agents are, as indices into ``flat``."""
        self.here = self.flat.take(self.index)
        """``[E, A]``: what is in the cells of the agents."""
        self._steps = np.array([-layout.stride, layout.stride, -1, 1])

    @property
    def place(self) -> np.ndarray:
        """``[E, A]``: the cells the agents are in."""
        return self.index - self.base

    @property
    def facing(self) -> np.ndarray:
        """``[E, A]``: 0 up, 1 down, 2 left, 3 right."""
        return self.here >> FACING & 3

    @property
    def load(self) -> np.ndarray:
        """``[E, A]``: 0 nothing, 1 a shelf that is not requested, 2 a requested shelf."""
        return _LOAD.take(self.here & CARGO)

    @property
    def standing(self) -> np.ndarray:
        """``[E, P]`` bool: cells with a shelf that nobody holds."""
        return (self.cells & (SHELF | HELD)) == SHELF

    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        """The cells ``[E, Q]`` of the requested shelves, and whether each is held ``[E, Q]`` bool."""
        found = np.flatnonzero(self.flat & REQUESTED).reshape(self.environments, -1)
        return found - self.base, (self.flat.take(found) & HELD) != 0

    @contextmanager
    def elsewhere(self, agent: int, place: np.ndarray) -> Iterator[np.ndarray]:
        """An agent, with its shelf, in the cells ``place [E]`` while the block lasts; gives where it can be ``[E]``.

        It cannot be where another agent or a wall is or, with a shelf, where a shelf is. There it stays where it is.
        """
        index, target = self.index[:, agent].copy(), self.base[:, 0] + place
        here, there = self.flat.take(index), self.flat.take(target)
        moved = here & np.where(here & HELD, np.uint16(ROBOT | CARGO), np.uint16(ROBOT))
        alone = (there & (ROBOT | WALL)) == 0
        free = (target == index) | (alone & (((here & HELD) == 0) | ((there & SHELF) == 0)))
        self._carry(agent, moved, np.where(free, target, index))
        try:
            yield free
        finally:
            self._carry(agent, moved, index)

    def _carry(self, agent: int, moved: np.ndarray, target: np.ndarray) -> None:
        """Take the bits ``moved [E]`` of an agent from its cells to ``target [E]``, which do not have them."""
        self.flat[self.index[:, agent]] ^= moved
        self.flat[target] ^= moved
        self.index[:, agent] = target
        self.here = self.flat.take(self.index)

    def ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """The cell in front of each agent ``[E, A]``, and whether a wall or a shelf keeps it from driving there."""
        ahead = self.index + self._steps.take(self.facing)
        there = self.flat.take(ahead)
        in_the_way = ((there & (SHELF | HELD)) == SHELF) & ((self.here & HELD) != 0)
        return ahead - self.base, in_the_way | ((there & WALL) != 0)

    def occupant(self, place: np.ndarray) -> np.ndarray:
        """The numbers ``[E, *]`` from 1 of the agents in the cells ``place [E, *]``, 0 where there is none."""
        return self.flat.take(self.base + place) >> AGENT

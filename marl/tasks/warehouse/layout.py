"""The floors of `warehouse`: from the id of a reference task to its cells, shelf places, goals and distances."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SIZES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
"""Rows and columns of shelf blocks."""
REQUESTS_PER_AGENT = {"-easy": 2.0, "": 1.0, "-hard": 0.5}
BLOCK_HEIGHT = 8
MAX_AGENTS = 19
_ID = re.compile(r"rware-(tiny|small|medium|large)-([1-9][0-9]?)ag(-easy|-hard|)-v2", re.ASCII)


@dataclass(frozen=True, eq=False)
class Layout:
    """The floor of one warehouse, the same for every environment.

    Cells are numbered row by row (y down) over a floor with a wall of one cell around it, so that every cell of the
    floor has eight neighbours; ``P`` cells in all. Shelves start on the ``N`` slots; every other cell is highway.
    """

    agents: int
    requests: int
    """``Q``: how many shelves are requested at any time."""
    width: int
    height: int
    highway: np.ndarray
    """``[P]`` bool: cells where no shelf can be put down. False on the walls."""
    slots: np.ndarray
    """``[N]`` cells."""
    goals: np.ndarray
    """``[2]`` cells."""

    @property
    def stride(self) -> int:
        """How far apart the numbers of a cell and the one below it are."""
        return self.width + 2

    @property
    def cells(self) -> int:
        """``P``."""
        return (self.width + 2) * (self.height + 2)

    @cached_property
    def floor(self) -> np.ndarray:
        """``[width * height]``: the cells inside the walls, row by row."""
        return np.flatnonzero(~self.wall)

    @cached_property
    def wall(self) -> np.ndarray:
        """``[P]`` bool."""
        x, y = self.x, self.y
        return (x < 0) | (x >= self.width) | (y < 0) | (y >= self.height)

    @cached_property
    def x(self) -> np.ndarray:
        """``[P]``: columns, from 0 at the left of the floor."""
        return np.arange(self.cells) % self.stride - 1

    @cached_property
    def y(self) -> np.ndarray:
        """``[P]``: rows, from 0 at the top of the floor."""
        return np.arange(self.cells) // self.stride - 1

    @cached_property
    def road(self) -> np.ndarray:
        """``[P, P]`` int16: moves between two cells over highways only (the two cells themselves may be slots).

        That is the way of an agent with a shelf, which cannot pass below other shelves. ``P`` where there is none.
        """
        moves = np.full((self.cells, self.cells), self.cells, dtype=np.int16)
        front = np.diag(~self.wall)
        unseen = ~front & ~self.wall
        moves[front] = 0
        for length in range(1, self.cells):
            sides = [np.roll(front, step, axis=1) for step in (1, -1, self.stride, -self.stride)]
            front = np.logical_or.reduce(sides) & unseen
            moves[front] = length
            unseen &= ~front
            front &= self.highway
            if not front.any():
                break
        return moves

    @cached_property
    def goal_distance(self) -> np.ndarray:
        """``[P]``: moves to the nearest goal along the `road`."""
        return self.road[:, self.goals].min(axis=1)

    @cached_property
    def longest_delivery(self) -> int:
        """The largest `goal_distance` of the floor."""
        return int(self.goal_distance[self.floor].max())

    def distance(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Moves between cells for an agent without a shelf, which passes below shelves (broadcast)."""
        return np.abs(self.x[start] - self.x[end]) + np.abs(self.y[start] - self.y[end])


def layout_of(task: str) -> Layout:
    """The floor of the reference task called ``task``, e.g. ``"rware-tiny-2ag-easy-v2"``.

    Raises ``ValueError`` for a name that is none of them, and for those that cannot be played.
    """
    match = _ID.fullmatch(task)
    if match is None or int(match[2]) > MAX_AGENTS:
        raise ValueError(
            f"warehouse got id={task!r}, expected rware-SIZE-Nag-v2, rware-SIZE-Nag-easy-v2 or rware-SIZE-Nag-hard-v2 "
            f"with SIZE one of {', '.join(SIZES)} and N from 1 to {MAX_AGENTS}: choose such an id."
        )
    (rows, columns), agents = SIZES[match[1]], int(match[2])
    layout = _build(rows, columns, agents, int(agents * REQUESTS_PER_AGENT[match[3]]))
    if not 1 <= layout.requests < len(layout.slots):
        raise ValueError(
            f"warehouse got id={task!r}, which requests {layout.requests} of its {len(layout.slots)} shelves, expected "
            f"at least 1 and fewer than all of them: choose another number of agents or another difficulty."
        )
    return layout


def _build(rows: int, columns: int, agents: int, requests: int) -> Layout:
    """The reference's ``_make_layout_from_params``: blocks two shelves wide, and a queue instead of the middle one."""
    height, width = (BLOCK_HEIGHT + 1) * rows + 2, 3 * columns + 1
    y, x = np.indices((height, width))
    middle = (x == width // 2 - 1) | (x == width // 2)
    highway = (x % 3 == 0) | (y % (BLOCK_HEIGHT + 1) == 0) | (y == height - 1)
    highway |= (y > height - (BLOCK_HEIGHT + 3)) & middle
    numbers = (y + 1) * (width + 2) + x + 1
    return Layout(
        agents,
        requests,
        width,
        height,
        highway=np.pad(highway, 1).ravel(),
        slots=numbers[~highway],
        goals=numbers[-1, [width // 2 - 1, width // 2]],
    )

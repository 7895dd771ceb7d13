"""The kitchens of `overcooked`: where everything stands, where a cook can walk, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

FLOOR, COUNTER, ONIONS, DISHES, POT, SERVING = range(6)
"""What a cell is."""
SIGNS = " XODPS"
"""The same in a drawing of a layout, where 1 and 2 are floor on which a cook starts."""
STEPS = ((0, -1), (0, 1), (1, 0), (-1, 0))
"""Columns and rows of a step north, south, east, west: the first four actions, and the directions."""
AGENTS = 2
NOBODY = -1
"""In place of a floor cell: nobody is in the way."""

LAYOUTS = {
    "cramped_room": ("XXPXX", "O  2O", "X1  X", "XDXSX"),
    "asymmetric_advantages": ("XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX"),
    "coordination_ring": ("XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX"),
    "forced_coordination": ("XXXPX", "O X1P", "O2X X", "D X X", "XXXSX"),
    "counter_circuit_o_1order": ("XXXPPXXX", "X  2   X", "D XXXX S", "X  1   X", "XXXOOXXX"),
}
"""Those of overcooked-ai 1.1 under its names, whose only order is a soup of three onions."""


@dataclass(frozen=True, eq=False)
class Layout:
    """One kitchen, the same for every environment. Cells are numbered row by row (y down), ``P`` in all."""

    name: str
    width: int
    height: int
    kind: np.ndarray
    """``[P]``: what each cell is."""
    starts: tuple[int, ...]
    """Where each cook begins."""

    @property
    def cells(self) -> int:
        """``P``."""
        return self.width * self.height

    @cached_property
    def steps(self) -> np.ndarray:
        """``[4]``: how far apart the numbers of a cell and its neighbour to the north, south, east and west are."""
        return np.array([right + down * self.width for right, down in STEPS])

    @cached_property
    def floor(self) -> np.ndarray:
        """``[F]``: the cells on which a cook can be."""
        return np.flatnonzero(self.kind == FLOOR)

    @cached_property
    def number(self) -> np.ndarray:
        """``[P]``: the place of each floor cell in ``floor``; 0 of the others."""
        number = np.zeros(self.cells, np.int64)
        number[self.floor] = np.arange(len(self.floor))
        return number

    @cached_property
    def pots(self) -> np.ndarray:
        """The cells with a pot."""
        return np.flatnonzero(self.kind == POT)

    @cached_property
    def counters(self) -> np.ndarray:
        """The counters that a cook can stand next to."""
        beside = np.zeros(self.cells, bool)
        beside[self.floor[:, None] + self.steps] = True
        return np.flatnonzero(beside & (self.kind == COUNTER))

    @cached_property
    def next(self) -> np.ndarray:
        """``[6, P]``: where each action leads from a floor cell; elsewhere it leads nowhere."""
        cells = np.arange(self.cells)
        next = np.tile(cells, (6, 1))
        for action, step in enumerate(self.steps):
            ahead = self.floor + step
            next[action, self.floor] = np.where(self.kind[ahead] == FLOOR, ahead, self.floor)
        return next

    @property
    def far(self) -> int:
        """A distance that stands for no way: more than any way has moves."""
        return len(self.floor)

    @cached_property
    def moves(self) -> np.ndarray:
        """``[F + 1, P, P]``: moves from a floor cell until a cook is next to another cell, ``far`` where it never is.

        The first axis is where another cook stands in the way, by its place in ``floor``; the last, `NOBODY`, is for
        none. A neighbour is at 0; the other ends of the way are the floor cells around.
        """
        moves = np.full((len(self.floor) + 1, self.cells, self.cells), self.far, np.int64)
        for blocked in range(len(self.floor) + 1):
            open_floor = np.delete(self.floor, [blocked] if blocked < len(self.floor) else [])
            walk = self._walks(open_floor)
            for cell in range(self.cells):
                around = np.intersect1d(cell + self.steps, open_floor)
                if len(around):
                    moves[blocked, :, cell] = walk[:, around].min(axis=1)
        return moves

    def _walks(self, floor: np.ndarray) -> np.ndarray:
        """``[P, P]``: moves between cells over ``floor`` alone, ``far`` where there is no way."""
        walk = np.full((self.cells, self.cells), self.far, np.int64)
        walk[floor, floor] = 0
        for _ in range(len(floor)):
            for step in self.steps:
                inside = floor[np.isin(floor + step, floor)]
                walk[inside] = np.minimum(walk[inside], walk[inside + step] + 1)
        return walk


def layout_of(name: str) -> Layout:
    """The kitchen called ``name``; ``ValueError`` for a name that is none of ``LAYOUTS``."""
    if name not in LAYOUTS:
        raise ValueError(f"overcooked got layout={name!r}, expected one of: {', '.join(LAYOUTS)}; choose one of these.")
    rows = LAYOUTS[name]
    drawn = "".join(rows)
    starts = tuple(drawn.index(str(agent + 1)) for agent in range(AGENTS))
    kind = np.array([FLOOR if sign in "12" else SIGNS.index(sign) for sign in drawn])
    return Layout(name, len(rows[0]), len(rows), kind, starts)

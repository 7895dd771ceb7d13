"""The boards of `foraging`: the ids of lbforaging and what they mean, the cells of a board, and how a game begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from learning_signal.marl.randomness import uniforms

SIZES, PLAYERS, FOODS = range(5, 20), range(2, 10), range(1, 5)
"""What lbforaging registers."""
SHORT_SIGHT = 2
LIFTERS = 3
"""No food is heavier than the weakest three agents together."""
LEVELS = 8
"""A food is the number ``cell * LEVELS + level``; no level reaches this."""

_ID = re.compile(r"Foraging(-2s)?-([1-9]\d*)x([1-9]\d*)-([1-9]\d*)p-([1-9]\d*)f(-coop)?(-v3)?")


@dataclass(frozen=True)
class Game:
    """What an id of lbforaging says."""

    size: int
    """Rows, and columns."""
    players: int
    foods: int
    """How many there are at most: a small board may have no room for all."""
    short_sight: bool
    coop: bool
    """Whether every food is as heavy as the weakest three agents (both, where there are two) together."""

    @property
    def name(self) -> str:
        sight, coop = "-2s" * self.short_sight, "-coop" * self.coop
        return f"Foraging{sight}-{self.size}x{self.size}-{self.players}p-{self.foods}f{coop}-v3"

    @property
    def sight(self) -> int:
        """How many rows and columns an agent sees on each side."""
        return SHORT_SIGHT if self.short_sight else self.size

    @property
    def heaviest(self) -> int:
        """The highest level a food can have."""
        return 2 * min(self.players, LIFTERS)


def parse_id(name: str) -> Game:
    """The game called ``name`` (``-v3`` is optional); ``ValueError`` for ids that lbforaging does not register."""
    match = _ID.fullmatch(name)
    if match is None:
        raise ValueError(
            f"The foraging id {name!r} is not understood, expected Foraging[-2s]-SIZExSIZE-PLAYERSp-FOODSf[-coop]-v3 "
            "(grid observations and penalties are not supported): write e.g. 'Foraging-8x8-2p-2f-coop-v3'."
        )
    sight, rows, columns, players, foods, coop, _ = match.groups()
    game = Game(
        size=_nearest(int(rows), SIZES),
        players=_nearest(int(players), PLAYERS),
        foods=_nearest(int(foods), FOODS),
        short_sight=bool(sight),
        coop=bool(coop),
    )
    wrong = [
        f"{found} {what} (expected {expected})"
        for what, found, expected, good in (
            ("columns", columns, f"{rows}, as many as rows", columns == rows),
            ("rows", rows, f"{SIZES[0]} to {SIZES[-1]}", int(rows) in SIZES),
            ("players", players, f"{PLAYERS[0]} to {PLAYERS[-1]}", int(players) in PLAYERS),
            ("foods", foods, f"{FOODS[0]} to {FOODS[-1]}", int(foods) in FOODS),
        )
        if not good
    ]
    if wrong:
        raise ValueError(f"The foraging id {name!r} has {' and '.join(wrong)}: the nearest id is {game.name!r}.")
    return game


def _nearest(number: int, allowed: range) -> int:
    return min(max(number, allowed[0]), allowed[-1])


class Board:
    """The cells of a square board, numbered row by row, as tables to look things up in.

    A food that is gone lies in the cell ``absent``: the highest number, further from every cell than its neighbours.
    """

    def __init__(self, size: int) -> None:
        self.size, self.cells, self.absent = size, size * size, size * (size + 2)
        row, column = np.divmod(np.arange(self.cells), size)
        self.place = np.full((2, self.absent + 1), -1, np.float32)
        """``[2, absent + 1]``: row and column of each cell; -1 of the absent one."""
        self.place[:, : self.cells] = row, column

        stay_north_south_west_east_load = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))
        self.next = np.array(
            [
                np.clip(row + down, 0, size - 1) * size + np.clip(column + right, 0, size - 1)
                for down, right in stay_north_south_west_east_load
            ]
        )
        """``[actions, cells]``: where an action leads on an empty board; into a wall it leads nowhere."""

        rows, columns = abs(row[:, None] - row), abs(column[:, None] - column)
        near = (rows <= 1) & (columns <= 1)
        in_line = np.minimum(rows, columns) == 0
        self.apart = ~(near | (in_line & (rows + columns <= 2)))
        """``[cells, cells]`` bool: whether both may begin with food."""
        self.inside = (row > 0) & (row < size - 1) & (column > 0) & (column < size - 1)
        """``[cells]`` bool: not at the border; food begins here only."""

    def steps_to(self, goal: np.ndarray, closed: np.ndarray) -> np.ndarray:
        """Steps ``[absent + 1, E]`` from each cell to ``goal`` ``[E]`` around ``closed`` cells; infinite if cut off."""
        steps = np.full(closed.shape, np.inf)
        steps[goal, np.arange(len(goal))] = 0.0
        inner, shut, neighbours = steps[: self.cells], closed[: self.cells], self.next[1:5]
        for _ in range(self.cells):
            further = np.where(shut, np.inf, np.minimum(inner, inner[neighbours].min(axis=0) + 1.0))
            if np.array_equal(further, inner):
                break
            inner[...] = further
        return steps


def spawn(game: Game, board: Board, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the games of ``seeds`` ``[N]`` begin: cells and levels ``[A, N]`` of the agents, foods ``[F, N]`` in order.

    One after the other, everything lands with equal chances in one of the cells that are open to it. That is the
    reference's distribution: it draws cells until one is open. (After 1000 draws it gives up; where a cell is open
    that has a chance of 1e-9 at most, on 9x9, the largest board that can be that full.)
    """
    draws = uniforms(seeds, 2 * (game.players + game.foods)).T
    draw_cell, draw_level = draws[: len(draws) // 2], draws[len(draws) // 2 :]
    cells = np.empty((game.players, len(seeds)), np.int64)
    levels = 1 + np.floor(2 * draw_level[: game.players])
    free = np.ones((len(seeds), board.cells), bool)
    everyone = np.arange(len(seeds))
    for agent in range(game.players):
        cells[agent], _ = _pick(free, draw_cell[agent])
        free[everyone, cells[agent]] = False

    heaviest = np.sort(levels, axis=0)[:LIFTERS].sum(axis=0)
    foods = np.full((game.foods, len(seeds)), board.absent * LEVELS)
    free &= board.inside
    for food in range(game.foods):
        cell, found = _pick(free, draw_cell[game.players + food])
        level = heaviest if game.coop else 1 + np.floor(heaviest * draw_level[game.players + food])
        foods[food, found] = (cell * LEVELS + level.astype(np.int64))[found]
        free &= board.apart[cell]
    foods.sort(axis=0)
    return cells, levels, foods


def _pick(free: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of the ``free`` ``[N, cells]`` cells ``[N]`` by a uniform ``draw`` ``[N]``, and whether there is any."""
    rank = np.cumsum(free, axis=1, dtype=np.int16)
    count = rank[:, -1]
    chosen = np.floor(draw * count).astype(np.int16)
    return (rank > chosen[:, None]).argmax(axis=1), count > 0

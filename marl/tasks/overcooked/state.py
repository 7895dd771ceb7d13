"""The state of a batch of kitchens and the rules that change it: those of overcooked-ai 1.1, step for step.

What lies in a cell is one number. On a counter, and in hands, it is an item; in a pot it is how many onions wait in it
or, once somebody has started it with empty hands, how many cook and for how long. So a rule is a look into a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from learning_signal.marl.tasks.overcooked.layout import AGENTS, COUNTER, DISHES, ONIONS, POT, SERVING, Layout

NORTH, SOUTH, EAST, WEST, STAY, INTERACT = range(6)
NOTHING, ONION, DISH, SOUP, THIN_SOUP = range(5)
"""Items. A soup of three onions is wanted; a thin one, of fewer, earns nothing."""
ITEMS = 5
FULL = 3
"""Onions that a pot holds."""
COOKING_TIME = 20
"""Steps from the one that starts a soup to the one after which it is ready."""
SOUP_REWARD = 20.0
STARTED = FULL + 1
"""The first number of a pot that was started: below are the onions that wait in it."""
CONTENTS = STARTED + FULL * (COOKING_TIME + 1)


def started(onions: int, ticks: int) -> int:
    """The number of a pot in which so many onions have cooked for so many steps."""
    return STARTED + (onions - 1) * (COOKING_TIME + 1) + ticks


_POT = np.arange(CONTENTS)
POT_ONIONS = np.where(_POT < STARTED, _POT, 1 + (_POT - STARTED) // (COOKING_TIME + 1))
"""``[CONTENTS]``: the onions in a pot."""
POT_STARTED = _POT >= STARTED
"""``[CONTENTS]`` bool."""
POT_TICKS = np.where(POT_STARTED, (_POT - STARTED) % (COOKING_TIME + 1), 0)
"""``[CONTENTS]``: the steps that it has cooked."""
POT_READY = POT_STARTED & (POT_TICKS == COOKING_TIME)
"""``[CONTENTS]`` bool."""
_COOKED = np.where(POT_STARTED & ~POT_READY, _POT + 1, _POT)
"""What is in a pot one step later."""


def _interactions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What interacting does, ``[6, CONTENTS, ITEMS]`` each: what is in the cell then, in the hands, and the reward."""
    shape = (6, CONTENTS, ITEMS)
    content, held = (each.copy() for each in np.broadcast_arrays(_POT[:, None], np.arange(ITEMS)))
    contents, hands, reward = np.tile(content, (6, 1, 1)), np.tile(held, (6, 1, 1)), np.zeros(shape, np.float32)

    def does(kind: int, before: tuple[int, int], after: tuple[int, int]) -> None:
        contents[(kind, *before)], hands[(kind, *before)] = after

    for item in range(1, ITEMS):
        does(COUNTER, (NOTHING, item), (item, NOTHING))
        does(COUNTER, (item, NOTHING), (NOTHING, item))
    does(ONIONS, (NOTHING, NOTHING), (NOTHING, ONION))
    does(DISHES, (NOTHING, NOTHING), (NOTHING, DISH))
    for onions in range(FULL):
        does(POT, (onions, ONION), (onions + 1, NOTHING))
        does(POT, (onions + 1, NOTHING), (started(onions + 1, 0), NOTHING))
        soup = SOUP if onions + 1 == FULL else THIN_SOUP
        does(POT, (started(onions + 1, COOKING_TIME), DISH), (NOTHING, soup))
    for soup in (SOUP, THIN_SOUP):
        does(SERVING, (NOTHING, soup), (NOTHING, NOTHING))
    reward[SERVING, NOTHING, SOUP] = SOUP_REWARD
    return contents, hands, reward


_CONTENT_AFTER, _HELD_AFTER, _REWARD = _interactions()


class Kitchens:
    """A batch of ``E`` kitchens of one layout."""

    def __init__(self, environments: int, layout: Layout) -> None:
        self.environments, self.layout = environments, layout
        self.place = np.tile(np.array(layout.starts)[:, None], (1, environments))
        """``[A, E]``: the cell of each cook."""
        self.facing = np.full((AGENTS, environments), NORTH)
        """``[A, E]``."""
        self.held = np.full((AGENTS, environments), NOTHING)
        """``[A, E]``: the item that each cook holds."""
        self.content = np.full((environments, layout.cells), NOTHING)
        """``[E, P]``: what lies on a counter or is in a pot; 0 elsewhere."""
        self._base = np.arange(environments) * layout.cells

    def start(self, where: np.ndarray) -> None:
        """Put everything back to where an episode begins, in the environments ``where [E]``."""
        self.place[:, where] = np.array(self.layout.starts)[:, None]
        self.facing[:, where], self.held[:, where], self.content[where] = NORTH, NOTHING, NOTHING

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Apply joint actions ``[E, A]``; the reward ``[E]`` float32.

        As in the reference cooks interact first, one after the other; then they move, both or, where one would get in
        the other's way, neither; then the pots cook.
        """
        chosen, reward = actions.T, np.zeros(self.environments, np.float32)
        for agent in range(AGENTS):
            self._interact(agent, np.flatnonzero(chosen[agent] == INTERACT), reward)
        self._move(chosen)
        pots = self.layout.pots
        self.content[:, pots] = _COOKED.take(self.content[:, pots])
        return reward

    def _interact(self, agent: int, rows: np.ndarray, reward: np.ndarray) -> None:
        """``agent`` interacts with the cell it faces, in the environments ``rows``."""
        ahead = self.place[agent, rows] + self.layout.steps.take(self.facing[agent, rows])
        flat, cell = self.content.ravel(), self._base[rows] + ahead
        key = (self.layout.kind.take(ahead) * CONTENTS + flat.take(cell)) * ITEMS + self.held[agent, rows]
        flat[cell] = _CONTENT_AFTER.take(key)
        self.held[agent, rows] = _HELD_AFTER.take(key)
        reward[rows] += _REWARD.take(key)

    def _move(self, chosen: np.ndarray) -> None:
        target = self.layout.next.ravel().take(chosen * self.layout.cells + self.place)
        swapped = (target[0] == self.place[1]) & (target[1] == self.place[0])
        self.place = np.where((target[0] == target[1]) | swapped, self.place, target)
        self.facing = np.where(chosen < STAY, chosen, self.facing)

    @contextmanager
    def elsewhere(self, agent: int, place: np.ndarray) -> Iterator[np.ndarray]:
        """A cook in the cells ``place [E]`` while the block lasts; gives where it can be ``[E]`` bool.

        It can be on any floor where the other is not. Elsewhere it stays where it is.
        """
        kept = self.place
        free = (self.layout.kind.take(place) == 0) & (place != kept[1 - agent])
        self.place = kept.copy()
        self.place[agent] = np.where(free, place, kept[agent])
        try:
            yield free
        finally:
            self.place = kept

    # --- what features, progress and the scripted policy ask ---

    @property
    def in_pots(self) -> np.ndarray:
        """``[E, pots]``: what is in each pot."""
        return self.content[:, self.layout.pots]

    @property
    def on_counters(self) -> np.ndarray:
        """``[E, counters]``: the items on the counters."""
        return self.content[:, self.layout.counters]

    def soups(self) -> np.ndarray:
        """``[E]``: how many soups of three onions are on dishes."""
        return (self.held == SOUP).sum(axis=0) + (self.on_counters == SOUP).sum(axis=1)

    def ways(self, to: np.ndarray) -> np.ndarray:
        """``[A, E]``: moves from each cook until it is next to any of the cells ``to [E, P]`` bool.

        Other cooks are not in the way; ``layout.far`` where there is no such cell or no way.
        """
        moves = self.layout.moves[-1].take(self.place, axis=0)
        return np.where(to, moves, self.layout.far).min(axis=2)

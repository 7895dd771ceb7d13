"""Designs of a confirmation, from before and after the gate's was chosen, each as a decision on drawn branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from bench.support.trials import GATE, LEVELS
from learning_signal.marl.gate.sequential import EARLY_SHARE, design

ALPHA = LEVELS[0]
PAIRS = 5
RANKED = (3, 4, 5)
"""Branches of each arm of a test that looks once."""
SHARED = (0.05, 0.025, 1 / 60, 1 / 120)
"""Levels: alone, and what sessions of two, three and six confirmations give each."""
LOOKS = (5, 6, 7)
EARLY = (Fraction(1, 2), Fraction(3, 4), Fraction(1))

Decision = tuple[np.ndarray, np.ndarray]
"""Per run, whether the candidate passed and how many branches that took, both arms together."""


@dataclass(frozen=True)
class Entry:
    """A design that is compared."""

    name: str
    most: int
    """Branches of each arm, at most."""
    size: float
    """Exact probability of a pass where nothing differs (values without ties, symmetric differences)."""
    decide: Callable[[np.ndarray, np.ndarray], Decision]
    """From the values of control and candidate, ``[runs, most]`` each; the larger is better."""
    variant: bool = False
    """Whether it is the gate's with other settings: compared in simulation alone."""


def entries(looks: Sequence[int] = LOOKS, early: Sequence[Fraction] = EARLY) -> list[Entry]:
    """All designs; the last ones are the gate's, by looks, level and the share of it that early looks may spend."""
    found = [
        Entry("paired 5 (version 0.1)", PAIRS, 2.0**-PAIRS, _paired),
        Entry("paired 5, curtailed", PAIRS, 2.0**-PAIRS, _curtailed),
        Entry("paired 5 + 1, curtailed", PAIRS + 1, 1.5 * 2.0**-PAIRS, _one_more),
    ]
    for each in RANKED:
        needed, size = once(each, ALPHA)
        found.append(Entry(f"ranks, {each} + {each}", each, size, ranked([None] * (each - 1) + [needed])))
    for level in SHARED:
        for count in looks:
            for share in early:
                plan = design(level, count, share)
                variant = (count, share) != (GATE.looks, EARLY_SHARE)
                name = f"ranks, {count} looks, {level:.2g}, early {float(share):g}" + (
                    "" if variant else " (this gate)"
                )
                found.append(Entry(name, count, plan.size, ranked(plan.pass_at, plan.stop_at), variant))
    return found


def once(branches: int, level: float) -> tuple[int, float]:
    """The fewest wins that a test of so many branches of each arm passes with, and its size: Mann and Whitney 1947."""
    whole, passed, needed = math.comb(2 * branches, branches), 0, branches**2 + 1
    while passed + _orders(branches, branches, needed - 1) <= level * whole:
        needed -= 1
        passed += _orders(branches, branches, needed)
    return needed, passed / whole


@cache
def _orders(control: int, candidate: int, wins: int) -> int:
    """Orders of so many branches of each arm with so many wins: the best branch is of one arm or of the other."""
    if wins < 0 or min(control, candidate) < 0:
        return 0
    if min(control, candidate) == 0:
        return int(wins == 0)
    return _orders(control, candidate - 1, wins - control) + _orders(control - 1, candidate, wins)


def _paired(control: np.ndarray, candidate: np.ndarray) -> Decision:
    won = (candidate > control).all(axis=1)
    return won, np.full(len(won), 2 * PAIRS)


def _curtailed(control: np.ndarray, candidate: np.ndarray) -> Decision:
    """The same passes; the first pair that is not won ends it."""
    lost = candidate <= control
    won = ~lost.any(axis=1)
    return won, 2 * np.where(won, PAIRS, lost.argmax(axis=1) + 1)


def _one_more(control: np.ndarray, candidate: np.ndarray) -> Decision:
    """Where the smallest difference alone is negative, a sixth pair decides (Koning and van Meer, arXiv 2501.03982)."""
    difference = candidate - control
    going, branches = np.ones(len(control), bool), np.zeros(len(control), int)
    for pair in range(1, PAIRS + 1):
        branches += 2 * going
        lost, size = difference[:, :pair] <= 0, np.abs(difference[:, :pair])
        smallest = np.take_along_axis(lost, size.argmin(axis=1)[:, None], axis=1)[:, 0]
        going &= (lost.sum(axis=1) == 0) | ((lost.sum(axis=1) == 1) & smallest)
    clear = going & (difference[:, :PAIRS] > 0).all(axis=1)
    branches += 2 * (going & ~clear)
    return clear | (going & (difference[:, PAIRS] > 0)), branches


def ranked(
    pass_at: Sequence[int | None], stop_at: Sequence[int] | None = None
) -> Callable[[np.ndarray, np.ndarray], Decision]:
    """Looks at one more branch of each arm, with these wins; without ``stop_at`` all are taken at once."""

    def decide(control: np.ndarray, candidate: np.ndarray) -> Decision:
        going, passed = np.ones(len(control), bool), np.zeros(len(control), bool)
        branches = np.zeros(len(control), int)
        for look, needed in enumerate(pass_at, start=1):
            branches += 2 * going
            wins = (candidate[:, :look, None] > control[:, None, :look]).sum(axis=(1, 2))
            if needed is not None:
                passed |= going & (wins >= needed)
                going &= ~passed
            if stop_at is not None:
                going &= wins > stop_at[look - 1]
        return passed, branches

    return decide

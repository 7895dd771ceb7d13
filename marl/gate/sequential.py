"""The test of a confirmation: one branch of each arm at a time, until the ranks decide.

After look ``k`` there are ``k`` branches of the candidate and ``k`` of the control. The candidate's *wins* are the
pairs (one branch of each arm, ``k * k`` in all) in which its branch is the better one. Every look has a number of
wins from which the candidate passes, and one up to which the trial ends without a pass.

The level is exact. Where the arms do not differ, all branches are exchangeable, so every order of them is equally
probable whatever they are worth. `Design` counts the orders of every course of the trial; nothing is approximated or
simulated. A tie counts against the candidate, which can only lower the probability of a pass. Nothing is assumed about
the distribution of returns; that branches are exchangeable needs other seeds and other evaluation episodes for each.

Sources: Mann and Whitney 1947 (wins); Jennison and Turnbull, "Group Sequential Methods", 1999 (levels spent over looks,
repeated confidence intervals, p of a sequential test by stages); Mathieu et al. 2023, arXiv 2306.10882 (sequential
permutation tests for learning agents).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

MOST_LOOKS = 8
"""Looks that can be counted within a second: there are ``C(2k, k)`` orders of the arms at look ``k``."""
EARLY_SHARE = Fraction(3, 4)
"""Share of the level that looks before the last may spend: early passes are cheap, the last look has the power."""
ROUNDING = Fraction(1, 10**9)
"""A level is a share of decimal numbers: it may be this much, of itself, below the fraction that it stands for."""
AHEAD = Fraction(2, 3)
"""The trial goes on only while the candidate wins more than this share of pairs."""


@dataclass(frozen=True)
class Design:
    """What each look needs, and what the whole trial does where the arms do not differ."""

    pass_at: tuple[int | None, ...]
    """Wins from which look ``k`` (from 1) passes; None where no number of wins does."""
    stop_at: tuple[int, ...]
    """Wins up to which look ``k`` ends the trial without a pass."""
    size: float
    """Exact probability of a pass."""
    branches: float
    """Expected number of branches, both arms together."""
    smallest_p: tuple[float, ...]
    """The smallest p with which the trial can end at look ``k``."""
    miss: float
    """Exact probability that a bound of `repeated_interval` misses the shift at any look, were all of them made."""

    @property
    def looks(self) -> int:
        """Most branches of each arm."""
        return len(self.pass_at)


@lru_cache(maxsize=256)
def design(level: float, looks: int, early: Fraction = EARLY_SHARE) -> Design:
    """The trial of at most ``looks`` branches per arm that passes with at most ``level`` where nothing differs.

    ``early`` is the share of the level that looks before the last may spend.

    Raises ``ValueError`` where no such trial can pass, or for more than ``MOST_LOOKS`` looks.
    """
    course = _course(level, looks, early)
    if not course.passed:
        raise ValueError(
            f"{looks} looks were given, but the smallest p of so many branches is "
            f"{1 / math.comb(2 * looks, looks):.3g} and can never reach {level:.3g}: use more looks or a larger level"
        )
    best = [before + shares[max(shares)] for before, shares in zip(course.passed_before, course.wins, strict=True)]
    return Design(
        pass_at=course.pass_at,
        stop_at=course.stop_at,
        size=float(course.passed),
        branches=float(course.branches),
        smallest_p=tuple(float(each) for each in best),
        miss=_miss(course.pass_at),
    )


def p_value(wins: int, look: int, level: float, looks: int) -> float:
    """Exact p of a trial that ends at ``look`` with so many wins: ordered by stages, an earlier pass is more extreme.

    The probability, where nothing differs, of a pass at an earlier look or of at least ``wins`` at this one.
    """
    course = _course(level, looks)
    here = sum((share for count, share in course.wins[look - 1].items() if count >= wins), Fraction(0))
    return float(course.passed_before[look - 1] + here)


def wins(control: Sequence[tuple[float, ...]], candidate: Sequence[tuple[float, ...]]) -> int:
    """Pairs in which the candidate's branch is better. A branch is a key; keys are compared from their first entry."""
    return sum(mine > theirs for mine in candidate for theirs in control)


def repeated_interval(
    control: Sequence[float], candidate: Sequence[float], plan: Design
) -> tuple[float | None, float | None]:
    """The shift of the candidate against the control that this look does not reject in either direction.

    A bound is None where this look can reject nothing. Each bound holds with a probability of at least ``1 - miss``
    whichever look ends the trial, as those of all looks hold together (Jennison and Turnbull 1999, chapter 9). That is
    a little less than ``1 - size``: a trial goes on by its own wins, not by those of the shifted branches.
    """
    needed = plan.pass_at[len(control) - 1]
    if needed is None:
        return None, None
    differences = np.sort(np.subtract.outer(np.asarray(candidate, np.float64), np.asarray(control, np.float64)).ravel())
    return float(differences[len(differences) - needed]), float(differences[needed - 1])


@dataclass(frozen=True)
class _Course:
    """All courses of a trial where nothing differs, counted."""

    pass_at: tuple[int | None, ...]
    stop_at: tuple[int, ...]
    wins: tuple[dict[int, Fraction], ...]
    """By look, the probability of getting there with so many wins."""
    passed_before: tuple[Fraction, ...]
    """By look, the probability of an earlier pass."""
    passed: Fraction
    branches: Fraction


_Order = tuple[bool, ...]
"""Branches from worst to best; True for one of the candidate."""


@lru_cache(maxsize=256)
def _course(level: float, looks: int, early: Fraction = EARLY_SHARE) -> _Course:
    if not 1 <= looks <= MOST_LOOKS:
        raise ValueError(f"{looks} looks were given, expected 1 to {MOST_LOOKS}")
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, expected a number between 0 and 1")
    allowed = Fraction(level) * (1 + ROUNDING)
    orders: dict[_Order, int] = {(): 1}
    passed, branches = Fraction(0), Fraction(0)
    pass_at: list[int | None] = []
    stop_at: list[int] = []
    reached: list[dict[int, Fraction]] = []
    before: list[Fraction] = []
    for look in range(1, looks + 1):
        branches += 2 * Fraction(sum(orders.values()), math.factorial(2 * look - 2))
        orders = _with_one_more(_with_one_more(orders, False), True)
        counted = {order: _wins(order) for order in orders}
        courses: dict[int, int] = {}
        for order, number in orders.items():
            courses[counted[order]] = courses.get(counted[order], 0) + number
        shares = {count: Fraction(number, math.factorial(2 * look)) for count, number in courses.items()}
        reached.append(shares)
        before.append(passed)
        room = (allowed if look == looks else allowed * early) - passed
        needed, spent = _threshold(shares, look * look, room)
        passed += spent
        stop = look * look if look == looks else math.floor(AHEAD * look * look)
        orders = {
            order: number
            for order, number in orders.items()
            if counted[order] > stop and (needed is None or counted[order] < needed)
        }
        pass_at.append(needed)
        stop_at.append(stop)
    return _Course(tuple(pass_at), tuple(stop_at), tuple(reached), tuple(before), passed, branches)


def _miss(pass_at: Sequence[int | None]) -> float:
    """The probability of enough wins at any look, where nothing differs and no look ends the trial without a pass."""
    orders: dict[_Order, int] = {(): 1}
    for needed in pass_at:
        orders = _with_one_more(_with_one_more(orders, False), True)
        if needed is not None:
            orders = {order: number for order, number in orders.items() if _wins(order) < needed}
    return float(1 - Fraction(sum(orders.values()), math.factorial(2 * len(pass_at))))


def _threshold(shares: dict[int, Fraction], most: int, room: Fraction) -> tuple[int | None, Fraction]:
    """The fewest wins that are together no more probable than ``room``, and how probable they are; None for none."""
    needed, spent = None, Fraction(0)
    for count in range(most, -1, -1):
        share = shares.get(count, Fraction(0))
        if spent + share > room:
            break
        if share:
            needed, spent = count, spent + share
    return needed, spent


def _with_one_more(orders: dict[_Order, int], candidate: bool) -> dict[_Order, int]:
    """One more branch, which may fall into each of the places between the others: the courses that end in each order.

    All courses are equally probable.
    """
    grown: dict[_Order, int] = {}
    for order, number in orders.items():
        for place in range(len(order) + 1):
            longer = (*order[:place], candidate, *order[place:])
            grown[longer] = grown.get(longer, 0) + number
    return grown


def _wins(order: _Order) -> int:
    below, count = 0, 0
    for candidate in order:
        if candidate:
            count += below
        else:
            below += 1
    return count

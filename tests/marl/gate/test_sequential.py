"""The exact test of ranks: its size by brute force and on any data, its p, its interval, and levels over a session."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from learning_signal.marl.gate.sequential import MOST_LOOKS, Design, design, p_value, repeated_interval, wins
from learning_signal.marl.gate.settings import GateSettings

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DATA: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "log-normal": lambda rng, shape: rng.lognormal(0.0, 2.0, shape),
}
LEVELS = [(0.2, 2), (0.05, 3), (0.2, 3), (0.05, 4), (0.03, 4), (0.2, 4)]


def won(control: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Wins ``[trials, looks]`` of branches ``[trials, looks]`` after every look."""
    better = candidate[:, :, None] > control[:, None, :]
    return np.stack([better[:, :k, :k].sum(axis=(1, 2)) for k in range(1, control.shape[1] + 1)], axis=1)


def every_course(looks: int) -> np.ndarray:
    """Wins ``[(2 looks)!, looks]`` of every order of the branches of both arms, in the order in which they come."""
    ranks = np.array(list(itertools.permutations(range(2 * looks))))
    return won(ranks[:, :looks], ranks[:, looks:])


def played(wins: np.ndarray, plan: Design) -> tuple[np.ndarray, np.ndarray]:
    """Of trials with these wins ``[trials, looks]``: which pass, and the look (from 1) that ends each."""
    ended, passed = np.zeros(len(wins), int), np.zeros(len(wins), bool)
    for look in range(1, plan.looks + 1):
        count, needed = wins[:, look - 1], plan.pass_at[look - 1]
        passes = (ended == 0) & (needed is not None) & (count >= (needed or 0))
        passed |= passes
        ended[passes | ((ended == 0) & (count <= plan.stop_at[look - 1]))] = look
    return passed, ended


def within_chance(passed: np.ndarray, size: float) -> bool:
    """Whether this many passes are no further from ``size`` than four standard deviations of their number."""
    n = len(passed)
    return bool(abs(passed.sum() - n * size) <= 4 * math.sqrt(n * size * (1 - size)))


# the level ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "looks"), LEVELS)
def test_size_and_branches_are_those_of_all_orders_played_through(level: float, looks: int) -> None:
    plan, n = design(level, looks), math.factorial(2 * looks)
    passed, ended = played(every_course(looks), plan)
    assert plan.size == float(Fraction(int(passed.sum()), n)) and 0 < plan.size <= level
    assert plan.branches == float(Fraction(2 * int(ended.sum()), n))
    assert ended.min() >= 1


@pytest.mark.parametrize("looks", [3, 4])
def test_a_test_at_every_look_without_spending_passes_too_often(looks: int) -> None:
    """Negative control: the fixed-sample p of each look against the whole level."""
    level, courses = 0.2, every_course(looks)
    needed = []
    for look in range(1, looks + 1):
        counts = courses[:, look - 1]
        needed.append(min((w for w in range(look**2 + 1) if np.mean(counts >= w) <= level), default=None))
    naive = Design(tuple(needed), (-1,) * looks, size=level, branches=0.0, smallest_p=(), miss=1.0)
    assert np.mean(played(courses, naive)[0]) > 1.2 * level
    assert np.mean(played(courses, design(level, looks))[0]) <= level


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("level", [0.05, 0.05 / 6])
def test_the_size_holds_on_any_data(name: str, level: float) -> None:
    rng, plan = np.random.default_rng(1), design(level, 6)
    passed, _ = played(won(*DATA[name](rng, (2, 20_000, 6))), plan)
    assert within_chance(passed, plan.size)
    shifted, _ = played(won(*DATA["normal"](rng, (2, 2_000, 6)) + np.array([0.0, 2.0])[:, None, None]), plan)
    assert shifted.mean() > 0.5  # negative control: it is no test that never passes


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_ties_only_lower_the_size(share: float) -> None:
    rng, plan = np.random.default_rng(2), design(0.05, 6)
    values = rng.lognormal(size=(2, 20_000, 6)) * (rng.random((2, 20_000, 6)) > share)
    tied, _ = played(won(*values), plan)
    broken, _ = played(won(*values + 1e-9 * rng.random(values.shape)), plan)
    assert not (tied & ~broken).any() and tied.sum() < broken.sum()
    assert within_chance(broken, plan.size)


def test_wins_are_pairs_of_branches_compared_entry_by_entry() -> None:
    rng = np.random.default_rng(3)
    control, candidate = rng.integers(0, 3, (2, 30, 4)).astype(float)
    for mine, theirs, expected in zip(candidate, control, won(control, candidate)[:, -1], strict=True):
        assert wins([(one,) for one in theirs], [(one,) for one in mine]) == expected
    assert wins([(1.0, 5.0), (2.0, 0.0)], [(1.0, 6.0), (2.0, 0.0)]) == 2  # beats the first twice, ties the second once
    assert wins([(1.0,)], [(1.0,)]) == 0


def test_a_design_that_cannot_pass_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 looks were given, but the smallest p .* is 0.05 and can never reach 0.04"):
        design(0.04, 3)
    assert design(0.05, 3).size == 1 / math.comb(6, 3)
    for looks in (0, MOST_LOOKS + 1):
        with pytest.raises(ValueError, match=f"{looks} looks were given, expected 1 to {MOST_LOOKS}"):
            design(0.05, looks)
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="expected a number between 0 and 1"):
            design(level, 6)


def test_a_trial_ends_once_it_wins_no_more_than_two_thirds_of_its_pairs() -> None:
    for level, looks in LEVELS:
        plan = design(level, looks)
        assert plan.stop_at == (*(2 * k * k // 3 for k in range(1, looks)), looks**2)
        assert plan.branches < 2 * looks


# p and interval -------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "looks"), LEVELS)
def test_p_is_exact_at_every_value_that_it_can_take(level: float, looks: int) -> None:
    courses, plan = every_course(looks), design(level, looks)
    passed, ended = played(courses, plan)
    at_the_end = courses[np.arange(len(courses)), ended - 1]
    ends, which = np.unique(np.stack([ended, at_the_end], axis=1), axis=0, return_inverse=True)
    p = np.array([p_value(int(count), int(look), level, looks) for look, count in ends])[which.ravel()]
    for value in np.unique(p):
        assert np.mean(p <= value) == pytest.approx(value, rel=1e-12)
    assert np.array_equal(p <= plan.size, passed) and np.array_equal(p <= level, passed)


@pytest.mark.parametrize(("level", "looks"), [(0.05, 4), (0.2, 4), (0.05, 6), (1 / 120, 6)])
def test_the_smallest_p_of_a_look_is_that_of_all_pairs_or_of_the_most_that_is_left(level: float, looks: int) -> None:
    plan = design(level, looks)
    first = next(look for look in range(1, looks + 1) if plan.pass_at[look - 1] is not None)
    for look in range(1, looks + 1):
        least = plan.smallest_p[look - 1]
        if look <= first:  # so far nothing has passed, so all pairs may be won
            assert least == pytest.approx(1 / math.comb(2 * look, look))
        attainable = {p_value(won, look, level, looks) for won in range(look * look + 1)}
        assert least == pytest.approx(min(each for each in attainable if each > p_before(plan, look, level)))
    assert min(plan.smallest_p) == pytest.approx(1 / math.comb(2 * first, first))


def p_before(plan: Design, look: int, level: float) -> float:
    """The probability of an earlier pass: the p of more wins than there are pairs."""
    return p_value(look * look + 1, look, level, plan.looks)


def test_p_of_the_ranks_at_the_end_alone_is_too_small() -> None:
    """Negative control: a plain Mann-Whitney p of the look that ended the trial."""
    looks = 4
    courses = every_course(looks)
    _, ended = played(courses, design(0.2, looks))
    p = np.empty(len(courses))
    for look in range(1, looks + 1):
        plain = np.array([np.mean(courses[:, look - 1] >= count) for count in range(look**2 + 1)])
        p[ended == look] = plain[courses[ended == look, look - 1]]
    assert max(np.mean(p <= value) / value for value in np.unique(p)) > 1.1


@pytest.mark.parametrize(("level", "looks"), LEVELS)
def test_the_bounds_of_all_looks_miss_together_as_often_as_the_design_says(level: float, looks: int) -> None:
    """A bound at one look misses where the shifted branches win enough there, also where no trial would get to."""
    plan, courses = design(level, looks), every_course(looks)
    enough = [courses[:, look] >= needed for look, needed in enumerate(plan.pass_at) if needed is not None]
    assert plan.miss == np.mean(np.any(enough, axis=0)) >= plan.size


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_each_bound_holds_whichever_look_ends_the_trial(name: str, shift: float) -> None:
    n, plan = 3_000, design(0.05, 6)
    control, candidate = DATA[name](np.random.default_rng(4), (2, n, 6))
    candidate += shift
    _, ended = played(won(control, candidate), plan)
    bounds = [repeated_interval(a[:k], b[:k], plan) for a, b, k in zip(control, candidate, ended, strict=True)]
    nothing = [plan.pass_at[k - 1] is None for k in ended]
    assert [bounds_of == (None, None) for bounds_of in bounds] == nothing
    allowed = n * plan.miss + 4 * math.sqrt(n * plan.miss)
    assert sum(low is not None and low > shift for low, _ in bounds) <= allowed
    assert sum(high is not None and high < shift for _, high in bounds) <= allowed
    assert any(low is not None and high is not None and high - low < 20 for low, high in bounds)


def test_a_plain_interval_of_the_look_that_ended_the_trial_misses_more_often() -> None:
    """Negative control: the bound of Student's t at the same level, as if the number of branches had been fixed."""
    n, shift, plan = 30_000, 0.3, design(0.05, 6)
    control, candidate = np.random.default_rng(4).normal(size=(2, n, 6))
    candidate += shift
    _, ended = played(won(control, candidate), plan)
    missed = 0
    for look in range(2, 7):
        theirs, mine = control[ended == look, :look], candidate[ended == look, :look]
        error = np.sqrt((theirs.var(axis=1, ddof=1) + mine.var(axis=1, ddof=1)) / look)
        low = mine.mean(axis=1) - theirs.mean(axis=1) - stats.t.ppf(1 - plan.size, 2 * look - 2) * error
        missed += int((low > shift).sum())
    assert missed > n * plan.size + 4 * math.sqrt(n * plan.size)


def test_an_interval_is_the_shifts_that_the_look_does_not_reject() -> None:
    rng, plan = np.random.default_rng(5), design(0.05, 6)
    control, candidate = rng.normal(size=(2, 5))
    low, high = repeated_interval(control, candidate, plan)
    needed = plan.pass_at[4]
    assert low is not None and high is not None and needed is not None and low < high
    for shift, rejected in ((low - 1e-9, True), (low + 1e-9, False)):
        assert (wins([(one,) for one in control], [(one - shift,) for one in candidate]) >= needed) == rejected
    for shift, rejected in ((high + 1e-9, True), (high - 1e-9, False)):
        assert (wins([(one - shift,) for one in candidate], [(one,) for one in control]) >= needed) == rejected
    assert repeated_interval(control[:1], candidate[:1], plan) == (None, None)


# the level of a session -----------------------------------------------------------------------

CONFIRMATIONS = 6
"""Of a default session: three rounds of two."""


def promotions(sessions: int, effects: list[float], each: float | None = None) -> np.ndarray:
    """Whether each confirmation ``[sessions, CONFIRMATIONS]`` passed (and so was promoted), at the levels of a session.

    ``effects`` are the true shifts; ``each`` gives every confirmation that level instead.
    """
    rng, gate = np.random.default_rng(6), GateSettings()
    passed = np.zeros((sessions, CONFIRMATIONS), bool)
    spent = np.zeros(sessions)
    for place, effect in enumerate(effects):
        control, candidate = rng.standard_t(3, size=(2, sessions, gate.looks))
        counted = won(control, candidate + effect)
        for before in np.unique(spent):
            here = spent == before
            plan = design(each or gate.level(float(before), CONFIRMATIONS - place), gate.looks)
            passed[here, place] = played(counted[here], plan)[0]
            spent[here] = before + np.where(passed[here, place], 0.0, plan.size)
        spent = spent.round(12)
    return passed


@pytest.mark.parametrize("effects", [[0.0] * 6, [3.0, 0, 0, 0, 0, 0], [0, 3.0, 3.0, 0, 3.0, 0], [3.0] * 5 + [0]])
def test_a_session_promotes_anything_that_does_not_help_in_at_most_family_alpha(effects: list[float]) -> None:
    sessions, gate = 4_000, GateSettings()
    assert gate.family_alpha == 0.05
    useless = np.array(effects) == 0
    promoted = promotions(sessions, effects)
    assert promoted[:, useless].any(axis=1).mean() <= gate.family_alpha + 4 * math.sqrt(gate.family_alpha / sessions)
    assert useless.all() or promoted[:, ~useless].mean() > 0.5


def test_every_confirmation_at_alpha_promotes_too_often() -> None:
    """Negative control, and what a session gives when nothing is shared."""
    assert promotions(4_000, [0.0] * 6, each=0.05).any(axis=1).mean() > 0.2


def test_whatever_is_promoted_the_levels_of_the_others_sum_to_at_most_family_alpha() -> None:
    """Every way in which a session can go: a promotion hands its level on, the rest is spent."""
    gate, confirmations = GateSettings(), 4
    for promoted in itertools.product((False, True), repeat=confirmations):
        spent = 0.0
        for place, handed_on in enumerate(promoted):
            size = design(gate.level(spent, confirmations - place), gate.looks).size
            spent += 0.0 if handed_on else size
        assert 0.0 <= spent <= 0.05 and (spent > 0) != all(promoted)


def test_the_next_confirmation_gets_half_of_the_level_that_is_left_and_the_last_one_all() -> None:
    gate = GateSettings()
    assert gate.level(0.0, 6) == pytest.approx(0.025)
    assert gate.level(0.03, 4) == pytest.approx(0.01)
    assert gate.level(0.03, 1) == pytest.approx(0.02)
    assert gate.level(0.0, 1) == gate.alpha == 0.05
    assert GateSettings(shares="equal").level(0.03, 4) == pytest.approx(0.005)
    assert GateSettings(alpha=0.01).level(0.0, 1) == 0.01
    assert GateSettings(family_alpha=None).level(0.4, 1) == 0.05


@pytest.mark.parametrize("confirmations", [2, 6, 20, 40])
def test_every_later_confirmation_keeps_a_level_that_its_looks_can_reach(confirmations: int) -> None:
    gate, spent = GateSettings(), 0.0
    smallest = 1 / math.comb(2 * gate.looks, gate.looks)
    gate.refuse_unreachable(confirmations)
    for left in range(confirmations, 0, -1):
        level = gate.level(spent, left)
        assert level >= smallest and level >= (gate.family_alpha - spent) / left * (1 - 1e-12)
        spent += design(level, gate.looks).size
    assert spent <= gate.family_alpha
    alone = [gate.family_alpha / 2**place for place in range(1, confirmations + 1)]
    assert (alone[-1] < smallest) == (confirmations > 5), "negative control: halves alone run out"

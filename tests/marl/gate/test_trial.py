"""A confirmation as a trial: when it passes, ends or goes on, and what its verdict says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.order import Order
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.trial import Look, judge_look

MAX_RETURN = 25.0
GATE = GateSettings()
DELTA = GATE.delta * MAX_RETURN
LEVEL = 0.05
BOTH = Order(step=0.1, progress=True, reason="sparse return, then progress")
PROGRESS = Order(step=None, progress=True, reason="progress")
SPARSE = Order(step=0.0, progress=False, reason="sparse return")

Arm = Sequence[tuple[float | None, float | None]]


def look(
    control: Arm, candidate: Arm, order: Order = BOTH, settings: GateSettings = GATE, level: float = LEVEL
) -> Look:
    """A look at branches given as (sparse return, progress)."""
    arms = [[Measure(sparse_return=one, progress=other) for one, other in arm] for arm in (control, candidate)]
    return judge_look(*arms, order, MAX_RETURN, settings, level)


def arm(sparse_return: float, progress: float, n: int = 4, apart: float = 0.001) -> list[tuple[float, float]]:
    """Branches around these means."""
    return [(sparse_return, progress + apart * (index - (n - 1) / 2)) for index in range(n)]


# what passes ----------------------------------------------------------------------------------


def test_a_gain_in_sparse_return_passes_on_sparse_return() -> None:
    found = look(arm(0.2, 0.3), arm(1.0, 0.3))
    assert (found.outcome, found.measure, found.wins, found.look) == ("pass", "sparse_return", 16, 4)
    assert found.mean_difference == pytest.approx(0.8) and found.delta == DELTA
    assert found.means == {
        "control": {"sparse_return": pytest.approx(0.2), "progress": pytest.approx(0.3)},
        "candidate": {"sparse_return": pytest.approx(1.0), "progress": pytest.approx(0.3)},
    }
    assert found.reason.startswith("pass on sparse return: 16 of 16 pairs won (4 branches of each arm)")
    assert found.reason.endswith("sparse return 1 against the control's 0.2, progress 0.3 against the control's 0.3")
    assert found.p is not None and found.p <= found.size <= found.level == LEVEL


@pytest.mark.parametrize("order", [BOTH, PROGRESS])
def test_a_pass_on_progress_says_that_sparse_return_gained_nothing(order: Order) -> None:
    """The confirmation of the issue: progress +0.70, deliveries 0.19 against 0.17."""
    found = look(arm(0.17, 0.02), arm(0.19, 0.72), order)
    assert (found.outcome, found.measure) == ("pass", "progress")
    assert "pass on progress, without a gain in sparse return above delta 0.05: " in found.reason
    assert found.reason.endswith(
        "sparse return 0.19 against the control's 0.17, progress 0.72 against the control's 0.02"
    )
    assert found.means["candidate"] == {"sparse_return": pytest.approx(0.19), "progress": pytest.approx(0.72)}
    assert found.means["control"] == {"sparse_return": pytest.approx(0.17), "progress": pytest.approx(0.02)}


def test_a_pass_on_progress_with_more_sparse_return_says_how_much() -> None:
    found = look(arm(0.1, 0.1), arm(0.4, 0.7), PROGRESS)
    assert found.reason.startswith("pass on progress, sparse return +0.3: ")


def test_progress_at_the_price_of_sparse_return_fails() -> None:
    found = look(arm(0.40, 0.1), arm(0.40 - DELTA - 0.01, 0.7), PROGRESS)
    assert (found.outcome, found.measure) == ("fail", "progress")
    assert "but sparse return is lower by 0.06; " in found.reason
    assert look(arm(0.40, 0.1), arm(0.40 - DELTA + 0.01, 0.7), PROGRESS).outcome == "pass"  # negative control
    lost = look(arm(1.0, 0.1), arm(0.4, 0.9), BOTH)
    assert (lost.outcome, lost.measure, lost.wins) == ("fail", "sparse_return", 0)


def test_a_difference_must_exceed_delta() -> None:
    assert look(arm(0, 0.300, apart=0), arm(0, 0.3049, apart=0), PROGRESS).outcome == "fail"
    assert look(arm(0, 0.300, apart=0), arm(0, 0.3051, apart=0), PROGRESS).outcome == "pass"
    assert "does not exceed delta 0.005" in look(arm(0, 0.3, apart=0), arm(0, 0.304, apart=0), PROGRESS).reason
    fine = Order(step=0.001, progress=True, reason="")
    assert look(arm(1.0, 0.3), arm(1.04, 0.3), fine).outcome == "fail"
    assert look(arm(1.0, 0.3), arm(1.06, 0.3), fine).outcome == "pass"
    without = GateSettings(delta=0.0, delta_progress=0.0)
    assert look(arm(0, 0.3, apart=0), arm(0, 0.3001, apart=0), PROGRESS, without).outcome == "pass"


def test_a_gain_in_sparse_return_within_delta_hides_no_progress() -> None:
    """Every branch delivers a little more, by less than counts: that must not cost the pass on progress."""
    fine = Order(step=0.001, progress=True, reason="")
    for sparse_return in (0.1, 0.12, 0.14):
        found = look(arm(0.1, 0.1), arm(sparse_return, 0.7), fine)
        assert (found.outcome, found.measure) == ("pass", "progress")
    assert look(arm(0.1, 0.1), arm(0.2, 0.7), fine).measure == "sparse_return"


def test_without_declared_progress_sparse_return_is_judged() -> None:
    control, candidate = [(0.1 * k, None) for k in range(4)], [(1 + 0.1 * k, None) for k in range(4)]
    found = look(control, candidate, SPARSE)
    assert (found.outcome, found.measure, found.means["control"]["progress"]) == ("pass", "sparse_return", None)
    assert found.reason.endswith("; sparse return 1.15 against the control's 0.15")
    assert look(candidate, control, SPARSE).outcome == "fail"


# when it ends ---------------------------------------------------------------------------------


def test_it_goes_on_until_it_is_decided() -> None:
    plan = design(LEVEL, GATE.looks)
    for n in range(1, GATE.looks + 1):
        found = look(arm(0, 0.1, n), arm(0, 0.9, n), PROGRESS)
        needed = plan.pass_at[n - 1]
        assert found.pass_at == needed
        assert found.outcome == (None if needed is None else "pass")
        ended = look(arm(0, 0.9, n), arm(0, 0.1, n), PROGRESS)
        assert (ended.outcome, ended.wins) == ("fail", 0)
        assert ("the trial ended as it could hardly pass" in ended.reason) == (n < GATE.looks)


def test_an_end_with_a_difference_above_delta_is_inconclusive() -> None:
    """Two of four pairs won, and the one large value makes the mean."""
    found = look([(0, 0.2), (0, 0.3)], [(0, 0.1), (0, 0.9)], PROGRESS)
    assert (found.outcome, found.wins) == ("inconclusive", 2)
    assert look([(0, 0.2), (0, 0.8)], [(0, 0.1), (0, 0.9)], PROGRESS).outcome == "fail"
    lost = look([(0.5, 0.2), (0.5, 0.3)], [(0.1, 0.1), (0.1, 0.9)], PROGRESS)
    assert lost.outcome == "fail"  # where sparse return is lower nothing is left open


def test_ties_do_not_count_for_the_candidate() -> None:
    assert look(arm(0.0, 0.5, apart=0), arm(0.0, 0.5, apart=0)).wins == 0
    found = look(arm(1.01, 0.5, apart=0), arm(1.09, 0.5, apart=0))  # the same step of sparse return
    assert (found.wins, found.outcome) == (0, "inconclusive")


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
@pytest.mark.parametrize("which", ["sparse_return", "progress"])
def test_a_missing_value_decides_nothing_for_the_candidate(missing: float | None, which: str) -> None:
    good, bad = arm(1.0, 0.9), arm(0.2, 0.1)
    broken = [*good[:3], (missing, 0.9) if which == "sparse_return" else (1.0, missing)]
    found = look(bad, broken)
    assert (found.outcome, found.p, found.wins, found.mean_difference) == ("fail", None, None, None)
    what = which.replace("_", " ")
    assert found.reason in {
        f"fail: the candidate has no {what} for seed 4 of 4",
        f"fail: the candidate has a {what} that is not finite for seed 4 of 4",
    }
    assert found.means["candidate"][which] is None and found.means["control"][which] is not None  # type: ignore[index]
    control = look(broken, good)
    assert (control.outcome, control.reason.split(" has ")[0]) == ("inconclusive", "inconclusive: the control")
    assert look(bad, good).outcome == "pass"  # negative control


def test_progress_that_the_task_does_not_declare_is_not_missed() -> None:
    assert look([(0.1, None)] * 4, [(1.0, None)] * 4, SPARSE).outcome == "pass"
    assert look([(0.1, None)] * 4, [(1.0, None)] * 4, BOTH).outcome == "fail"


def test_unequal_numbers_of_branches_are_refused() -> None:
    for n, m in ((1, 2), (0, 0), (7, 7)):
        with pytest.raises(
            ValueError, match=f"found {n} branches of the control and {m} of the candidate, .* at most 6"
        ):
            look(arm(0, 0, n), arm(0, 0, m))


def test_a_level_that_no_trial_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="can never reach 0.0001"):
        look(arm(0, 0), arm(0, 0), level=1e-4)


# what holds in general ------------------------------------------------------------------------

RANK = {"fail": 0, "inconclusive": 1, None: 2, "pass": 3}


@pytest.mark.parametrize("order", [BOTH, PROGRESS, Order(step=0.01, progress=True, reason=""), SPARSE])
@pytest.mark.parametrize("n", [2, 4, 6])
def test_a_better_candidate_never_gets_a_worse_outcome(order: Order, n: int) -> None:
    """At the same look; only one that goes on may fail instead, where it wins enough and gains too little."""
    rng, seen = np.random.default_rng(n), set()
    for _ in range(150):
        control = np.stack([rng.normal(0.5, 0.1, n), rng.normal(0.3, 0.02, n)], axis=1)
        shift = rng.choice([0.0, 0.03, 0.1, 0.3]), rng.choice([0.0, 0.004, 0.02, 0.1])
        candidate = np.stack([rng.normal(0.5, 0.1, n), rng.normal(0.3, 0.02, n)], axis=1) + shift
        better = candidate.copy()
        better[rng.integers(n)] += rng.choice([0.0, 0.01, 0.3]), rng.choice([0.0, 0.01, 0.3])
        before, after = (look(control.tolist(), each.tolist(), order) for each in (candidate, better))
        seen |= {before.outcome, after.outcome}
        if before.outcome is None and after.outcome == "fail":
            assert after.pass_at is not None and after.wins is not None and after.wins >= after.pass_at
        else:
            assert RANK[after.outcome] >= RANK[before.outcome], (before.reason, after.reason)
    assert seen >= ({"pass", "fail", None} if n == 4 else {"fail"})


def test_exchanged_arms_pass_in_no_more_than_the_size() -> None:
    """The whole judgement with delta and ties, over every way to give eight branches to the arms."""
    settings, rng = GateSettings(looks=4), np.random.default_rng(0)
    branches = [(float(a), float(b)) for a, b in zip(rng.integers(0, 3, 8) * 0.1, rng.normal(0.3, 0.1, 8), strict=True)]
    level, passed, ways = 0.05, 0, 0
    for chosen in itertools.combinations(range(8), 4):
        arms = [branches[k] for k in range(8) if k not in chosen], [branches[k] for k in chosen]
        passed += look(*arms, BOTH, settings, level).outcome == "pass"
        ways += 1
    assert 0 < passed / ways <= level

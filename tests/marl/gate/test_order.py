"""What orders branches: sparse return where it says something, in steps of what can be measured, then progress."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.order import INFORMATIVE, RESOLUTION, Order, order_of
from learning_signal.marl.gate.screening import ScreenResult, rank_screen
from learning_signal.marl.gate.settings import GateSettings

EPISODES = 256
WAREHOUSE_MAX = 107.7
"""Of ``rware-tiny-2ag-easy-v2``: no policy can reach it."""


def measure(sparse_return: float | None, progress: float | None = 0.0) -> Measure:
    """A branch whose episodes' sparse returns are counts with this mean."""
    mean = 0.0 if sparse_return is None else sparse_return
    return Measure(
        sparse_return=sparse_return,
        progress=progress,
        succeeded=None if sparse_return is None else 1 - math.exp(-mean),
        error=None if sparse_return is None else math.sqrt(mean / EPISODES),
    )


WAREHOUSE = {
    "control": measure(0.08, 0.06),
    "c1": measure(1.01, 0.51),  # "moves left to the next delivery"
    "c2": measure(0.24, 0.67),  # "lift requested shelves"
    "c3": measure(1.34, 0.64),  # "pick up and deliver"
}


def screened(arms: dict[str, Measure], settings: GateSettings, max_return: float = WAREHOUSE_MAX) -> ScreenResult:
    """The arms, each measured on as many seeds as the settings say."""
    repeated = {name: [one] * settings.screen_seeds for name, one in arms.items()}
    return rank_screen(repeated.pop("control"), repeated, max_return, settings)


# the screen -----------------------------------------------------------------------------------


def test_the_screen_of_the_warehouse_sends_on_what_delivers() -> None:
    found = screened(WAREHOUSE, GateSettings())
    assert (found.chosen, found.measure) == ("c3", "sparse_return")
    assert [arm.name for arm in found.arms] == ["c3", "c1", "c2"] == list(found.confirmable or ())
    assert found.arms[0].gains == {"sparse_return": pytest.approx(1.26), "progress": pytest.approx(0.58)}
    assert found.order is not None and found.order.progress and found.order.step is not None and found.order.step > 0
    assert found.reason.startswith("c3 is best: mean difference of sparse return +1.26 over 1 seed; ")


def test_the_paired_gate_sends_on_what_lifts_shelves() -> None:
    """Negative control: below 2 % of a return that no policy can reach, only progress counts."""
    found = screened(WAREHOUSE, GateSettings(mode="paired"))
    assert (found.chosen, found.measure, found.order, found.confirmable) == ("c2", "progress", None, None)


@pytest.mark.parametrize("largest", [1.0, 25.0, 1e6])
def test_no_theoretical_maximum_ranks(largest: float) -> None:
    assert screened(WAREHOUSE, GateSettings(), largest) == screened(WAREHOUSE, GateSettings())


def test_sparse_returns_that_cannot_be_told_apart_leave_the_ranking_to_progress() -> None:
    arms = {"control": measure(1.0, 0.3), "c1": measure(1.05, 0.2), "c2": measure(1.02, 0.6)}
    found = screened(arms, GateSettings())
    assert (found.chosen, found.measure, found.confirmable) == ("c2", "progress", ("c2",))
    apart = screened(arms | {"c1": measure(1.5, 0.2)}, GateSettings())  # negative control
    assert (apart.chosen, apart.measure, apart.confirmable) == ("c1", "sparse_return", ("c1", "c2"))


def test_what_does_no_better_than_the_control_is_not_confirmable() -> None:
    found = screened({"control": measure(1.0, 0.3), "c1": measure(0.2, 0.9), "c2": measure(1.0, 0.3)}, GateSettings())
    assert (found.chosen, found.confirmable) == (None, ())
    assert [arm.name for arm in found.arms] == ["c2", "c1"]
    assert found.reason.endswith("but no candidate does better than the control")
    fewer = screened({"control": measure(0.0, 0.3), "c1": measure(0.0, 0.31), "c2": measure(0.0, 0.29)}, GateSettings())
    assert (fewer.chosen, fewer.confirmable) == ("c1", ("c1",))


def test_a_branch_without_a_measure_is_left_out_with_its_reason() -> None:
    arms = WAREHOUSE | {"c3": measure(None, None), "c4": measure(2.0, None)}
    found = screened(arms, GateSettings())
    assert (found.chosen, found.confirmable) == ("c1", ("c1", "c2"))
    assert {arm.name: arm.failure for arm in found.arms if arm.failure} == {
        "c3": "has no sparse return for seed 1 of 1",
        "c4": "has no progress for seed 1 of 1",
    }
    nothing = screened(WAREHOUSE | {"control": measure(None, None)}, GateSettings())
    assert (nothing.chosen, nothing.confirmable) == (None, ())
    assert nothing.reason == "nothing could be compared: the control has no sparse return for seed 1 of 1"


def test_without_declared_progress_sparse_return_alone_ranks() -> None:
    arms = {"control": measure(0.0, None), "c1": measure(0.01, None), "c2": measure(0.02, None)}
    found = screened(arms, GateSettings())
    assert found.order is not None and (found.order.step, found.order.progress) == (0.0, False)
    assert (found.chosen, found.measure, found.confirmable) == ("c2", "sparse_return", ("c2", "c1"))


def test_a_rung_before_the_last_confirms_nothing() -> None:
    halved = screened(WAREHOUSE, GateSettings(screen_halvings=1))
    assert (halved.goes_on, halved.chosen, halved.confirmable) == (("c3", "c1"), None, None)


# when sparse return speaks --------------------------------------------------------------------


def test_lucky_single_episodes_do_not_decide() -> None:
    """At zero skill one lucky episode of 256 is no success of the shaping, whatever a mean makes of it."""
    lucky = Measure(sparse_return=10 / 256, progress=0.1, succeeded=1 / 256, error=10 / 256)
    arms = {"control": measure(0.0, 0.1), "c1": lucky, "c2": measure(0.0, 0.4)}
    found = screened(arms, GateSettings())
    assert (found.chosen, found.measure, found.confirmable) == ("c2", "progress", ("c2",))
    assert found.order is not None and found.order.step is None
    assert found.order.reason == "at most 0.4% of an arm's episodes succeed, so progress decides"


@pytest.mark.parametrize(("succeeded", "speaks"), [(INFORMATIVE - 0.001, False), (INFORMATIVE, True), (1.0, True)])
def test_sparse_return_speaks_from_a_share_of_successes_of_any_arm_on(succeeded: float, speaks: bool) -> None:
    one = Measure(sparse_return=1.0, progress=0.5, succeeded=succeeded, error=0.1)
    none = Measure(sparse_return=0.0, progress=0.5, succeeded=0.0, error=0.0)
    for arms in ({"control": [one], "c1": [none]}, {"control": [none, none], "c1": [one, one]}):
        order = order_of(arms, declared=True)
        assert (order.step is not None) == speaks and order.progress
        assert order.step in (None, RESOLUTION * 0.1)


def test_the_share_is_of_an_arm_not_of_its_best_seed() -> None:
    one = Measure(sparse_return=1.0, progress=0.5, succeeded=INFORMATIVE, error=0.1)
    none = Measure(sparse_return=0.0, progress=0.5, succeeded=0.0, error=0.0)
    assert order_of({"control": [none, none], "c1": [one, none]}, declared=True).step is None


def test_arms_that_were_not_measured_order_nothing() -> None:
    order = order_of({"control": [measure(None, None)], "c1": []}, declared=True)
    assert (order.step, order.reason) == (None, "no arm was measured, so progress decides")
    mixed = order_of({"control": [measure(None, None), measure(1.0)]}, declared=True)
    assert mixed.step == pytest.approx(RESOLUTION / math.sqrt(EPISODES))


def test_the_step_grows_with_the_error_so_noise_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 10.0):
        episodes = rng.exponential(scale, (200, EPISODES))
        errors = episodes.std(axis=1, ddof=1) / math.sqrt(EPISODES)
        arms = [
            Measure(sparse_return=float(mean), progress=0.5, succeeded=1.0, error=float(error))
            for mean, error in zip(episodes.mean(axis=1), errors, strict=True)
        ]
        order = order_of({"control": arms}, declared=True)
        gains = [
            order.gain(one.sparse_return - other.sparse_return, 0.0)[0]
            for one, other in zip(arms[::2], arms[1::2], strict=True)
        ]
        assert np.mean(np.array(gains) != 0) < 0.2  # two of the same skill
        assert (
            order.gain(scale, 0.0)[0] >= 5 and order.gain(-scale, 0.0)[0] <= -5
        )  # negative control: a true difference


# keys -----------------------------------------------------------------------------------------


def test_a_key_orders_by_steps_of_sparse_return_then_by_progress() -> None:
    both = Order(step=0.5, progress=True, reason="")
    branches = [(1.6, 0.1), (1.2, 0.2), (1.4, 0.1), (0.3, 0.9)]  # best first
    keys = [both.key(*branch) for branch in branches]
    assert keys == sorted(keys, reverse=True) and keys[0][0] > keys[1][0] == keys[2][0] > keys[3][0]
    assert both.key(1.1, 0.3) == both.key(1.4, 0.3)  # a tie
    assert both.key(-0.1, 0.3) < both.key(0.1, 0.3)
    progress = Order(step=None, progress=True, reason="")
    assert progress.key(9.0, 0.1) < progress.key(0.0, 0.2)
    sparse = Order(step=0.0, progress=False, reason="")
    assert sparse.key(0.2, None) < sparse.key(0.2001, None) == sparse.key(0.2001, 0.9)


def test_a_gain_within_one_step_is_none_in_either_direction() -> None:
    order = Order(step=0.5, progress=True, reason="")
    assert [order.gain(gain, 0.0)[0] for gain in (-1.2, -0.4, 0.0, 0.4, 0.5, 1.2)] == [-2, 0, 0, 0, 1, 2]
    assert Order(step=0.0, progress=False, reason="").gain(0.1, None) == (0.1,)


@pytest.mark.parametrize(
    ("step", "progress", "difference", "expected"),
    [
        (0.1, True, 0.3, "sparse_return"),
        (0.1, True, -0.3, "sparse_return"),
        (0.1, True, 0.2, "progress"),
        (None, True, 0.3, "progress"),
        (0.0, False, 0.0, "sparse_return"),
    ],
)
def test_what_judges_is_sparse_return_where_it_differs_by_more_than_delta(
    step: float | None, progress: bool, difference: float, expected: str
) -> None:
    assert Order(step=step, progress=progress, reason="").decides(difference, delta=0.2) == expected

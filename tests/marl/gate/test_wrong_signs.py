"""A shaping that pays for the wrong thing, wins progress by a hair and loses sparse return does not pass.

``+2 * collisions`` (declared "lower is better") was once promoted on progress by +0.0102 and rolled back: these are its
siblings, judged by every gate that a session may use.
"""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.gate.probation import probation
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.trial import judge_look

MAX_RETURN, LEVEL, EPISODES = 25.0, 0.05, 64
HAIR = 0.0102
SEQUENTIAL, PAIRED = GateSettings(), GateSettings(mode="paired")
DELTA = SEQUENTIAL.delta * MAX_RETURN


def branches(sparse_return: float, progress: float, n: int, error: float = 0.02) -> list[Measure]:
    """Branches around these means, so near to each other that every pair is decided alike."""
    return [
        Measure(
            sparse_return=sparse_return, progress=progress + 1e-4 * k, succeeded=min(sparse_return, 1.0), error=error
        )
        for k in range(n)
    ]


SIBLINGS = (
    (0.30, 0.20, None),
    (0.30, 0.30 - DELTA - 0.001, None),
    (1.00, 0.60, 0.04),
    (1.00, 0.97, 0.01),  # a loss within delta, in steps that tell it
    (6.00, 4.00, 0.10),
)
"""Sparse return of control and candidate, and the step of the order (None: progress decides)."""


@pytest.mark.parametrize(("control", "candidate", "step"), SIBLINGS)
@pytest.mark.parametrize("n", [4, 5, 6])
def test_no_look_of_a_trial_passes_it(control: float, candidate: float, step: float | None, n: int) -> None:
    order = Order(step=step, progress=True, reason="")
    arms = branches(control, 0.4, n), branches(candidate, 0.4 + HAIR, n)
    found = judge_look(*arms, order, MAX_RETURN, SEQUENTIAL, LEVEL)
    assert found.outcome in ("fail", "inconclusive")
    honest = judge_look(arms[0], branches(control, 0.4 + HAIR, n), order, MAX_RETURN, SEQUENTIAL, LEVEL)
    assert honest.outcome == "pass", "negative control: the same gain in progress, and no loss"


def test_a_loss_that_is_less_than_a_lucky_episode_is_said_in_the_verdict() -> None:
    """Below what can be told apart progress decides, and the verdict does not claim more: probation is what is left."""
    arms = branches(0.04, 0.4, 5), branches(0.04 - DELTA / 2, 0.4 + HAIR, 5)
    found = judge_look(*arms, Order(step=None, progress=True, reason=""), MAX_RETURN, SEQUENTIAL, LEVEL)
    assert found.outcome == "pass"
    assert found.reason.startswith("pass on progress, without a gain in sparse return above delta 0.05: ")
    assert "sparse return 0.015 against the control's 0.04" in found.reason


@pytest.mark.parametrize(("control", "candidate"), [(0.9, 0.6), (1.0, 0.7), (6.0, 4.0), (0.6, 0.45)])
def test_the_paired_gate_does_not_pass_it_either(control: float, candidate: float) -> None:
    def judged(sparse_return: float) -> str:
        values, theirs = (np.array([mean + 0.01 * k for k in range(5)]) for mean in (sparse_return, control))
        progress = np.array([0.4 + 1e-4 * k for k in range(5)])
        return judge(theirs, values, progress, progress + HAIR, MAX_RETURN, PAIRED).outcome

    assert judged(candidate) == "fail"
    assert judged(control + 0.3) == "pass"  # negative control


@pytest.mark.parametrize(("control", "candidate"), [(0.30, 0.20), (1.0, 0.6), (6.0, 4.0)])
def test_a_screen_does_not_send_it_on(control: float, candidate: float) -> None:
    arms = {"control": branches(control, 0.4, 1), "c1": branches(candidate, 0.4 + HAIR, 1)}
    found = rank_screen(arms["control"], {"c1": arms["c1"]}, MAX_RETURN, SEQUENTIAL)
    assert (found.chosen, found.confirmable) == (None, ())
    assert order_of(arms, declared=True).step is not None, "sparse return speaks"
    honest = rank_screen(arms["control"], {"c1": branches(control, 0.4 + HAIR, 1)}, MAX_RETURN, SEQUENTIAL)
    assert honest.chosen == "c1"  # negative control


def test_probation_takes_back_what_passed_and_loses_sparse_return_later() -> None:
    before = np.random.default_rng(0).exponential(1.0, EPISODES)
    progress = np.full(EPISODES, 0.4)
    found = probation(before, 0.5 * before, progress, progress + HAIR, MAX_RETURN, SEQUENTIAL)
    assert (found.outcome, found.measure) == ("regressed", "sparse_return")
    held = probation(before, before, progress, progress + HAIR, MAX_RETURN, SEQUENTIAL)
    assert held.outcome == "held"  # negative control

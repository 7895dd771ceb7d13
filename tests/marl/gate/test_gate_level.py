"""What the gate promises: its level on any data, with a screen before it, and for all confirmations of a session."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError

from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.plan.settings import SessionSettings

MAX_RETURN = 25.0
PAIRED = partial(GateSettings, mode="paired")
SETTINGS = PAIRED()


def share_of_swaps_that_pass(control, candidate, progress=None, settings=SETTINGS, judged=judge):
    """Of all ways to swap arms within pairs, the share that passes: the exact level on this data."""
    n, passed = len(control), 0
    for swaps in itertools.product((False, True), repeat=n):
        one, other = np.where(swaps, candidate, control), np.where(swaps, control, candidate)
        shown = (
            (None, None)
            if progress is None
            else (np.where(swaps, progress[1], progress[0]), np.where(swaps, progress[0], progress[1]))
        )
        passed += judged(one, other, *shown, MAX_RETURN, settings).outcome == "pass"
    return passed / 2**n


@pytest.mark.parametrize("n", [5, 6])
def test_no_data_passes_in_more_than_alpha_of_its_swaps(n):
    rng = np.random.default_rng(n)
    for scale in (0.3, 1.0, 3.0):  # below, around and above the floor of 0.5
        settings = PAIRED(confirm_seeds=n)
        control, candidate = rng.exponential(scale, (2, n))
        progress = np.cumsum(rng.exponential(0.05, (2, n)), axis=0)
        assert share_of_swaps_that_pass(control, candidate, progress, settings) <= settings.alpha


def test_an_arm_may_not_choose_what_is_judged():
    """Each arm's own mean against the floor, as one might write it, passes twice as often as alpha allows."""

    def by_its_own_mean(control, candidate, before, after, max_return, settings):
        floor = settings.floor * max_return
        if max(control.mean(), candidate.mean()) < floor:
            return judge(control * 0, candidate * 0, before, after, max_return, settings)
        return judge(control + 10, candidate + 10, before, after, max_return, settings)

    # All for one arm in sparse return: then that is judged and passes. All but one for the other in progress: where the
    # arms are mixed, both means lie below the floor, and progress passes for another swap.
    control, candidate = np.full(5, 0.05), np.full(5, 0.7)
    signs = np.array([1, -1, 1, -1, 1])
    progress = (np.full(5, 0.2) - 0.1 * signs, np.full(5, 0.2) + 0.1 * signs)
    assert share_of_swaps_that_pass(control, candidate, progress, judged=by_its_own_mean) == 2 / 32
    assert share_of_swaps_that_pass(control, candidate, progress) == 1 / 32


def test_a_better_candidate_never_gets_a_worse_verdict():
    order = ("fail", "inconclusive", "pass")
    rng = np.random.default_rng(0)
    for _ in range(15):
        control, candidate = rng.normal(12, 1, (2, 5))
        ranks, sizes = [], []
        for shift in np.linspace(-3, 3, 13):
            verdict = judge(control, candidate + shift, None, None, MAX_RETURN, SETTINGS)
            ranks.append(order.index(verdict.outcome))
            sizes.append((verdict.mean_difference, *verdict.interval, -verdict.p))
        assert ranks == sorted(ranks) and ranks[-1] > ranks[0]
        assert sizes == sorted(sizes) and all(np.diff(np.array(sizes), axis=0).min(axis=0) >= 0)


def test_a_stricter_alpha_or_delta_never_passes_more():
    rng = np.random.default_rng(1)
    for _ in range(60):
        control, candidate = rng.normal(12, 1, 7), rng.normal(13, 1, 7)
        loose = judge(control, candidate, None, None, MAX_RETURN, PAIRED(confirm_seeds=7, alpha=0.2))
        for stricter in (PAIRED(confirm_seeds=7), PAIRED(confirm_seeds=7, alpha=0.2, delta=0.04)):
            strict = judge(control, candidate, None, None, MAX_RETURN, stricter)
            assert loose.outcome == "pass" or strict.outcome != "pass"


def clones(rng, names, seeds):
    """Measures of arms among which nothing differs."""
    return {name: [Measure(sparse_return=value, progress=None) for value in rng.normal(12, 2, seeds)] for name in names}


@pytest.mark.parametrize("trials", [280, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("halvings", [0, 2])
def test_a_screen_of_clones_chooses_each_as_often_and_leaves_the_confirmation_its_level(halvings, trials):
    settings = PAIRED(screen_halvings=halvings)
    rng, names = np.random.default_rng(halvings), tuple("abcdefgh")
    wins, passed, reused = dict.fromkeys(names, 0), 0, 0
    for _ in range(trials):
        rung, left = 0, names
        while True:
            measured = clones(rng, ("control", *left), settings.screen_seeds)
            control = measured.pop("control")
            result = rank_screen(control, measured, MAX_RETURN, settings, rung)
            if result.goes_on is None:
                break
            rung, left = rung + 1, result.goes_on
        wins[result.chosen] += 1
        assert rung == halvings
        fresh = rng.normal(12, 2, (2, 5))
        passed += judge(*fresh, None, None, MAX_RETURN, settings).outcome == "pass"
        # Negative control: the best of eight on one set of seeds, judged on the same seeds.
        arms = rng.normal(12, 2, (9, 5))
        best = arms[1:][np.argmax(arms[1:].mean(axis=1))]
        reused += judge(arms[0], best, None, None, MAX_RETURN, settings).outcome == "pass"
    error = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert passed / trials <= 0.05 + error < 0.09 < reused / trials
    chance = 1 / len(names)
    assert all(abs(count / trials - chance) < 4 * math.sqrt(chance * (1 - chance) / trials) for count in wins.values())


def test_a_screen_finds_the_better_one_rung_by_rung():
    settings, rng = PAIRED(screen_halvings=2), np.random.default_rng(5)
    names, found = tuple("abcdefgh"), 0
    for _ in range(50):
        rung, left = 0, names
        while left is not None:
            measured = clones(rng, ("control", *left), 2)
            control = measured.pop("control")
            if "e" in measured:
                measured["e"] = [Measure(sparse_return=each.sparse_return + 8, progress=None) for each in measured["e"]]
            result = rank_screen(control, measured, MAX_RETURN, settings, rung)
            rung, left = rung + 1, result.goes_on
        found += result.chosen == "e"
    assert found > 45


# --- the family ---


@pytest.mark.parametrize("sessions", [50, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("rounds", "refinements", "seeds"), [(1, 0, 5), (2, 1, 6)])
def test_the_family_alpha_bounds_any_false_promotion_of_a_session(rounds, refinements, seeds, sessions):
    gate = PAIRED(family_alpha=0.1, alpha=0.1, confirm_seeds=seeds)
    settings = SessionSettings.model_validate(
        {"gate": gate.model_dump(), "rounds": rounds, "deliberation": {"refinements": refinements}}
    )
    assert settings.confirmations == rounds * (1 + refinements)
    assert gate.shared_alpha(settings.confirmations) * settings.confirmations == pytest.approx(0.1)
    rng, each_alone, promoted = np.random.default_rng(rounds), 0, 0
    for _ in range(sessions):
        data = rng.normal(12, 2, (settings.confirmations, 2, seeds))
        promoted += any(
            judge(*pair, None, None, MAX_RETURN, gate, settings.confirmations).outcome == "pass" for pair in data
        )
        each_alone += any(judge(*pair, None, None, MAX_RETURN, gate).outcome == "pass" for pair in data)
    assert promoted / sessions <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / sessions)
    if settings.confirmations > 1:  # negative control: without sharing, the family's error is far above
        assert each_alone / sessions > 0.2


def test_a_verdict_says_what_alpha_it_used():
    gate = PAIRED(family_alpha=0.06, confirm_seeds=7)
    better = [each + 1 for each in range(7)]
    verdict = judge(range(7), better, None, None, 1.0, gate, confirmations=6)
    assert (verdict.outcome, verdict.alpha) == ("pass", 0.01)
    assert "against alpha 0.01 (one of 6 that share family alpha 0.06), 7 pairs" in verdict.reason
    assert verdict.interval == (1.0, 1.0)
    assert judge(range(7), better, None, None, 1.0, gate).alpha == 0.05  # alpha itself is never exceeded
    assert "family" not in judge(range(7), better, None, None, 1.0, PAIRED(confirm_seeds=7)).reason


def test_a_guard_against_worse_returns_is_not_weakened_by_sharing():
    gate = PAIRED(family_alpha=0.05, confirm_seeds=7)
    control, worse = np.full(7, 0.3), np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.301])
    verdict = judge(control, worse, np.full(7, 0.1), np.full(7, 0.2), MAX_RETURN, gate, confirmations=5)
    assert gate.shared_alpha(5) < verdict.sparse_p_worse <= gate.alpha
    assert verdict.outcome == "fail"


def test_too_few_seeds_for_a_share_are_refused_with_the_number_that_would_do():
    SessionSettings(gate=PAIRED(family_alpha=0.05), rounds=1, deliberation={"refinements": 0})
    with pytest.raises(
        ValidationError,
        match=r"never reach 0.00833, the share of 6 confirmations in family_alpha 0.05: use at least 7 confirm_seeds",
    ):
        SessionSettings(gate=PAIRED(family_alpha=0.05))
    SessionSettings(gate=PAIRED(family_alpha=0.05, confirm_seeds=7))
    with pytest.raises(ValidationError, match="takes at most 20: use a larger family_alpha or fewer confirmations"):
        SessionSettings(gate=PAIRED(family_alpha=1e-4, confirm_seeds=20), rounds=100)
    with pytest.raises(ValidationError, match="smallest p of so many can never reach alpha 0.001: use at least 999"):
        PAIRED(alpha=0.001, confirm_seeds=10, probation_resamples=100)


# --- the controls of a study ---

SINGLE = GateSettings(mode="single run", screen_seeds=1, confirm_seeds=1, screen_fraction=1)
ALWAYS = GateSettings(mode="always", confirm_seeds=1)


@pytest.mark.parametrize(("candidate", "outcome"), [(10.76, "pass"), (10.74, "fail"), (9.0, "fail"), (None, "fail")])
def test_the_usual_practice_passes_what_beats_a_margin_in_one_run(candidate, outcome):
    verdict = judge([10.0], [candidate], [0.9], [0.1], MAX_RETURN, SINGLE)
    assert (verdict.outcome, verdict.measure, verdict.p, verdict.interval) == (outcome, "sparse_return", None, None)
    assert (verdict.alpha, verdict.delta) == (None, 0.75)
    if candidate is not None:
        assert verdict.reason.startswith(f"{outcome} by a single run against a margin of 0.75, which is no test")
    assert judge([None], [10.0], None, None, MAX_RETURN, SINGLE).outcome == "inconclusive"


def test_the_usual_practice_looks_at_sparse_return_alone():
    quick, lucky = Measure(sparse_return=0.0, progress=0.9), Measure(sparse_return=0.1, progress=0.0)
    measured, control = {"quick": [quick], "lucky": [lucky]}, [Measure(sparse_return=0.0, progress=0.1)]
    assert rank_screen(control, measured, MAX_RETURN, SINGLE).chosen == "lucky"
    assert rank_screen(control, measured, MAX_RETURN, SETTINGS).chosen == "quick"


@pytest.mark.parametrize(
    ("control", "candidate", "outcome"),
    [(10.0, 1.0, "pass"), (None, 1.0, "pass"), (10.0, None, "fail"), (10.0, math.nan, "fail")],
)
def test_with_the_gate_off_everything_passes_that_was_trained(control, candidate, outcome):
    verdict = judge([control], [candidate], None, None, MAX_RETURN, ALWAYS)
    assert (verdict.outcome, verdict.p) == (outcome, None)
    assert outcome == "fail" or "the gate off, whatever was measured" in verdict.reason
    assert judge([10.0] * 5, [1.0] * 5, None, None, MAX_RETURN, SETTINGS).outcome == "fail"  # negative control


def test_controls_are_what_they_are_called():
    with pytest.raises(ValidationError, match="'single run' compares one run per arm at full length"):
        GateSettings(mode="single run")
    with pytest.raises(ValidationError, match="found family_alpha with mode 'always', under which nothing is tested"):
        GateSettings(mode="always", family_alpha=0.05)
    with pytest.raises(ValidationError, match="use at least 5 confirm_seeds"):
        PAIRED(confirm_seeds=1)

"""The gate: exactness of its statistics, every outcome, the floor, refusals, and its false-promotion rate."""

import itertools
import json
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from learning_signal.marl.gate.confirmation import Verdict, judge
from learning_signal.marl.gate.measure import Measure, later_half, later_half_mean
from learning_signal.marl.gate.probation import probation
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.statistics import interval, paired_permutation_p
from learning_signal.tools.stage import stage_label

PAIRED = partial(GateSettings, mode="paired")
SETTINGS = PAIRED()
MAX_RETURN = 25.0
ABOVE = [10.0, 11.0, 12.0, 13.0, 14.0]


def brute_force_p(differences):
    flips = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    means = (flips * np.asarray(differences)).mean(axis=1)
    return np.mean(means >= np.mean(differences) - 1e-12)


def judged(differences, control=ABOVE, progress=None, settings=SETTINGS, base_progress=0.03):
    candidate = [c + d for c, d in zip(control, differences, strict=True)]
    before = after = None
    if progress is not None:
        before = [base_progress] * len(control)
        after = [base_progress + d for d in progress]
    return judge(control, candidate, before, after, MAX_RETURN, settings)


# --- statistics ---


@pytest.mark.parametrize("n", range(2, 13))
def test_permutation_p_equals_brute_force(n):
    rng = np.random.default_rng(n)
    for differences in (
        rng.normal(0.5, 1, n),
        -np.abs(rng.normal(0.5, 1, n)),  # all negative
        rng.integers(-2, 3, n).astype(float),  # ties and zeros
        np.where(rng.random(n) < 0.5, 0.0, 1.0),
        np.full(n, 0.1),
        np.zeros(n),
    ):
        assert paired_permutation_p(differences) == pytest.approx(brute_force_p(differences), abs=1e-12)


def test_permutation_p_of_five_positive_pairs_is_one_in_thirty_two():
    assert paired_permutation_p([0.1, 2.0, 0.4, 1.0, 0.01]) == 1 / 32
    assert paired_permutation_p([0.1, 2.0, 0.4]) == 1 / 8
    assert paired_permutation_p([-0.1, -2.0, -0.4, -1.0, -0.01]) == 1.0  # negative control: worse is not better
    assert paired_permutation_p([0.0] * 5) == 1.0


@pytest.mark.parametrize("bad", [[1.0], [], [1.0, math.nan], [1.0, math.inf], [1.0, None], [0.5] * 21])
def test_permutation_p_refuses(bad):
    with pytest.raises(ValueError, match="pairs|missing"):
        paired_permutation_p(bad)


def test_interval_matches_the_t_table_and_covers():
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.90)
    half = 2.13184679 * math.sqrt(2.5 / 5)  # t(0.95, 4)
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    for n, level in ((2, 0.9), (5, 0.5), (12, 0.99)):
        values = np.random.default_rng(n).normal(size=n)
        expected = stats.t.interval(level, n - 1, loc=values.mean(), scale=values.std(ddof=1) / math.sqrt(n))
        assert interval(values, level) == pytest.approx(expected)
        assert interval(values, level) != pytest.approx(stats.norm.interval(level, values.mean(), stats.sem(values)))
    assert interval([0.1] * 5, 0.9) == pytest.approx((0.1, 0.1))
    draws = np.random.default_rng(0).normal(1.0, 2.0, (1000, 5))
    covered = np.mean([low <= 1.0 <= high for low, high in (interval(row, 0.90) for row in draws)])
    assert 0.87 < covered < 0.93


def test_interval_refuses():
    with pytest.raises(ValueError, match="at least 2"):
        interval([1.0], 0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval([1.0, 2.0], 90)


def test_settings_refuse_too_few_confirm_seeds_and_name_the_number():
    with pytest.raises(ValidationError, match="use at least 5 confirm_seeds"):
        PAIRED(confirm_seeds=4)
    with pytest.raises(ValidationError, match="use at least 7 confirm_seeds"):
        PAIRED(alpha=0.01)
    assert PAIRED(alpha=0.0625, confirm_seeds=4).confirm_seeds == 4
    with pytest.raises(ValidationError):
        PAIRED(confirm_seeds=21)


# --- verdicts ---


def test_five_clear_improvements_pass():
    verdict = judged([1.0, 0.5, 0.8, 1.2, 0.6])
    assert (verdict.outcome, verdict.measure, verdict.below_floor, verdict.p) == (
        "pass",
        "sparse_return",
        False,
        1 / 32,
    )
    assert verdict.mean_difference == pytest.approx(0.82)
    assert verdict.delta == pytest.approx(0.05)
    assert verdict.reason.startswith("pass on sparse return: mean difference +0.82")


def test_the_swapped_comparison_fails():
    verdict = judged([-1.0, -0.5, -0.8, -1.2, -0.6])
    assert verdict.outcome == "fail"
    assert verdict.sparse_p_worse == 1 / 32


def test_an_unchanged_clone_fails_and_never_passes():
    verdict = judged([0.0] * 5)
    assert (verdict.outcome, verdict.interval, verdict.p) == ("fail", (0.0, 0.0), 1.0)


def test_one_negative_pair_of_five_is_inconclusive():
    verdict = judged([1.0, 1.0, 1.0, 1.0, -0.5])
    assert verdict.outcome == "inconclusive"
    assert verdict.p > SETTINGS.alpha


def test_significant_but_not_larger_than_delta_does_not_pass():
    quarter = PAIRED(delta=0.01)  # 0.25 of 25, exact in binary
    at = judged([0.25] * 5, control=[16.0] * 5, settings=quarter)
    assert (at.outcome, at.interval) == ("fail", (0.25, 0.25))  # the interval lies at delta
    assert judged([0.250001] * 5, control=[16.0] * 5, settings=quarter).outcome == "pass"
    tiny = judged([0.01, 0.02, 0.03, 0.02, 0.01])
    assert (tiny.outcome, tiny.p) == ("fail", 1 / 32)
    assert judged([0.06, 0.051, 0.07, 0.055, 0.06]).outcome == "pass"


def test_interval_straddling_delta_is_inconclusive():
    verdict = judged([0.3, -0.2, 0.2, -0.3, 0.1])
    assert verdict.outcome == "inconclusive"
    assert verdict.interval[0] < verdict.delta < verdict.interval[1]


BELOW = [0.001, 0.002, 0.0, 0.003, 0.001]
GAINS = [0.03, 0.04, 0.035, 0.04, 0.03]


def test_below_the_floor_progress_is_judged_and_the_verdict_says_so():
    verdict = judged([0.004, 0.005, 0.004, 0.003, 0.006], control=BELOW, progress=GAINS)
    assert (verdict.outcome, verdict.measure, verdict.below_floor) == ("pass", "progress", True)
    assert verdict.delta == SETTINGS.delta_progress
    assert "pass on progress" in verdict.reason and "competence floor (0.5 sparse return)" in verdict.reason
    assert "the mean of the better of each pair is below" in verdict.reason and "every arm" not in verdict.reason
    assert verdict.differences == pytest.approx(GAINS)


def test_progress_is_ignored_as_soon_as_one_arm_is_above_the_floor():
    for control, gain in ((ABOVE, 0.0), (BELOW, 0.6)):
        verdict = judged([gain] * 5, control=control, progress=[-0.02] * 5)
        assert (verdict.measure, verdict.below_floor) == ("sparse_return", False)
    assert verdict.outcome == "pass"


def test_the_floor_is_exclusive():
    at = [0.5] * 5
    assert judged([0.0] * 5, control=at, progress=GAINS).below_floor is False
    assert judged([0.0] * 5, control=[0.4999] * 5, progress=GAINS).below_floor is True


def test_significantly_worse_sparse_return_forbids_a_pass_on_progress():
    worse = judged([-0.1, -0.2, -0.1, -0.15, -0.1], control=[0.3] * 5, progress=GAINS)
    assert (worse.outcome, worse.sparse_p_worse) == ("fail", 1 / 32)
    assert "sparse return is significantly worse" in worse.reason
    noisy = judged([-0.1, -0.2, 0.1, -0.15, -0.1], control=[0.3] * 5, progress=GAINS)
    assert noisy.outcome == "pass"  # negative control: worse, but not significantly


def test_below_the_floor_without_progress_is_only_ever_inconclusive():
    for differences in ([0.2] * 5, [-0.2] * 5, [0.0] * 5):
        verdict = judged(differences, control=[0.25] * 5)
        assert (verdict.outcome, verdict.below_floor) == ("inconclusive", True)
        assert "declares no progress" in verdict.reason


@pytest.mark.parametrize("hole", [math.nan, math.inf, None])
def test_a_failed_arm_is_never_compared(hole):
    better, holed = [20.0] * 5, [20.0, 20.0, hole, 20.0, 20.0]
    failed = judge(ABOVE, holed, None, None, MAX_RETURN, SETTINGS)
    assert (failed.outcome, failed.p, failed.mean_difference, failed.interval) == ("fail", None, None, None)
    assert "seed 3 of 5" in failed.reason
    assert judge(holed, better, None, None, MAX_RETURN, SETTINGS).outcome == "inconclusive"
    progress, broken = [0.5] * 5, [0.5, hole, 0.5, 0.5, 0.5]
    assert judge(BELOW, BELOW, [0.1] * 5, broken, MAX_RETURN, SETTINGS).outcome == "fail"
    assert judge(BELOW, BELOW, broken, progress, MAX_RETURN, SETTINGS).outcome == "inconclusive"
    assert judge(ABOVE, better, None, None, MAX_RETURN, SETTINGS).outcome == "pass"  # the same without the hole


def test_judge_refuses_arms_that_do_not_pair():
    with pytest.raises(ValueError, match="equally many"):
        judge([1.0] * 5, [1.0] * 4, None, None, MAX_RETURN, SETTINGS)
    with pytest.raises(ValueError, match="only one arm has progress"):
        judge(BELOW, BELOW, [0.1] * 5, None, MAX_RETURN, SETTINGS)
    with pytest.raises(ValueError, match="at least 2"):
        judge([1.0], [2.0], None, None, MAX_RETURN, SETTINGS)


def test_verdicts_survive_json_without_nan():
    for verdict in (judged([1.0, 0.5, 0.8, 1.2, 0.6]), judge([math.nan] * 5, ABOVE, None, None, MAX_RETURN, SETTINGS)):
        text = verdict.model_dump_json()
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        assert Verdict.model_validate_json(text) == verdict


@pytest.mark.parametrize("repetitions", [150, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["normal", "mostly zero", "progress"])
def test_false_promotions_stay_at_alpha_when_nothing_is_better(kind, repetitions):
    rng, promoted = np.random.default_rng(7), 0
    for _ in range(repetitions):
        if kind == "progress":
            arms = rng.normal(0.2, 0.05, (2, 5))
            verdict = judge([0.0] * 5, [0.0] * 5, arms[0], arms[1], MAX_RETURN, SETTINGS)
        else:
            arms = (
                rng.normal(10, 2, (2, 5))
                if kind == "normal"
                else rng.exponential(8, (2, 5)) * (rng.random((2, 5)) < 0.4)
            )
            verdict = judge(arms[0], arms[1], None, None, MAX_RETURN, SETTINGS)
        promoted += verdict.outcome == "pass"
    # alpha plus three standard errors; the attainable level of five pairs is 1/32
    assert promoted / repetitions <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert kind != "normal" or promoted > 0  # negative control: the simulation can promote at all


def test_a_real_effect_is_found():
    rng = np.random.default_rng(8)
    outcomes = [
        judge(c, c + rng.normal(2, 0.5, 5), None, None, MAX_RETURN, SETTINGS).outcome
        for c in rng.normal(10, 2, (50, 5))
    ]
    assert outcomes.count("pass") > 45


# --- screening ---


def measures(returns, progress=None):
    progress = progress if progress is not None else [None] * len(returns)
    return [Measure(sparse_return=r, progress=p) for r, p in zip(returns, progress, strict=True)]


def test_screen_ranks_by_paired_difference():
    result = rank_screen(
        measures([5.0, 8.0]),
        {"low": measures([4.0, 7.5]), "best": measures([6.0, 9.5]), "same": measures([5.0, 8.0])},
        MAX_RETURN,
        SETTINGS,
    )
    assert [arm.name for arm in result.arms] == ["best", "same", "low"]
    assert (result.chosen, result.measure) == ("best", "sparse_return")
    assert result.arms[0].differences == (1.0, 1.5)


def test_screen_uses_progress_only_when_every_arm_is_below_the_floor():
    control = measures([0.0, 0.0], [0.10, 0.10])
    slow = measures([0.1, 0.1], [0.11, 0.12])
    quick = measures([0.0, 0.0], [0.30, 0.20])
    result = rank_screen(control, {"slow": slow, "quick": quick}, MAX_RETURN, SETTINGS)
    assert (result.measure, result.chosen) == ("progress", "quick")
    scoring = measures([4.0, 4.0], [0.10, 0.10])
    result = rank_screen(control, {"slow": slow, "quick": quick, "scoring": scoring}, MAX_RETURN, SETTINGS)
    assert (result.measure, result.chosen) == ("sparse_return", "scoring")


def test_screen_without_progress_ranks_sparse_return():
    result = rank_screen(measures([0.0, 0.0]), {"a": measures([0.1, 0.0])}, MAX_RETURN, SETTINGS)
    assert (result.measure, result.chosen) == ("sparse_return", "a")


def test_screen_excludes_failed_arms_with_the_reason():
    result = rank_screen(
        measures([1.0, 1.0]),
        {
            "dead": measures([99.0, None]),
            "nan": measures([math.nan, 99.0]),
            "short": measures([9.0]),
            "fine": measures([1.1, 1.0]),
        },
        MAX_RETURN,
        SETTINGS,
    )
    assert result.chosen == "fine"
    failures = {arm.name: arm.failure for arm in result.arms}
    assert failures["fine"] is None
    assert "no sparse return for seed 2" in failures["dead"]
    assert "not finite" in failures["nan"]
    assert "1 of 2" in failures["short"]


def test_a_seed_that_the_control_did_not_finish_is_left_out_for_every_arm():
    candidates = {"a": measures([2.0, 99.0]), "b": measures([3.0, None]), "c": measures([None, 99.0])}
    result = rank_screen(measures([1.0, None]), candidates, MAX_RETURN, SETTINGS)
    assert (result.chosen, result.arms[0].differences) == ("b", (2.0,))  # what b lost is nothing against it
    assert "over 1 paired seeds; the control has no sparse return for seed 2 of 2, which is left out" in result.reason
    assert {arm.name: arm.failure for arm in result.arms}["c"] == "has no sparse return for seed 1 of 2"
    whole = rank_screen(measures([1.0, 1.0]), candidates, MAX_RETURN, SETTINGS)
    assert (whole.chosen, whole.arms[-1].name) == ("a", "c")  # negative control: with it, b has failed
    assert "left out" not in whole.reason


def test_screen_with_a_failed_control_chooses_nothing():
    result = rank_screen(measures([math.nan, None]), {"a": measures([2.0, 2.0])}, MAX_RETURN, SETTINGS)
    assert result.chosen is None
    assert "the control" in result.reason and "the control" in result.arms[0].failure
    assert rank_screen(measures([1.0]), {}, MAX_RETURN, SETTINGS).chosen is None


# --- probation, measures, stages ---


def test_probation_rolls_back_a_real_drop_and_keeps_the_rest():
    rng = np.random.default_rng(3)
    before = rng.normal(10, 3, 256)
    dropped = probation(before, before - rng.normal(1, 2, 256), None, None, MAX_RETURN, SETTINGS)
    assert (dropped.outcome, dropped.n) == ("regressed", 256)
    assert probation(before, before.copy(), None, None, MAX_RETURN, SETTINGS).outcome == "held"
    assert probation(before, before + 1, None, None, MAX_RETURN, SETTINGS).outcome == "held"
    small = probation(before, before - 0.04, None, None, MAX_RETURN, SETTINGS)
    assert (small.outcome, small.p <= SETTINGS.alpha) == ("held", True)  # significant, but within delta
    noisy = before.copy()
    noisy[:10] -= rng.normal(3, 20, 10)
    assert probation(before, noisy, None, None, MAX_RETURN, SETTINGS).p > SETTINGS.alpha


def test_probation_below_the_floor_uses_progress():
    rng = np.random.default_rng(4)
    zeros, progress = np.zeros(200), rng.uniform(0.2, 0.4, 200)
    verdict = probation(zeros, zeros, progress, progress - 0.05, MAX_RETURN, SETTINGS)
    assert (verdict.outcome, verdict.measure) == ("regressed", "progress")
    grown = probation(zeros, zeros + 5, progress, progress - 0.05, MAX_RETURN, SETTINGS)
    assert (grown.outcome, grown.measure) == ("held", "sparse_return")  # success outweighs progress
    assert probation(zeros, zeros, None, None, MAX_RETURN, SETTINGS).outcome == "held"


def test_probation_false_alarms_stay_at_alpha():
    rng = np.random.default_rng(5)
    alarms = sum(
        probation(*rng.normal(10, 6, (2, 48)), None, None, MAX_RETURN, SETTINGS).outcome == "regressed"
        for _ in range(40)
    )
    assert alarms <= 40 * 0.05 + 3 * math.sqrt(40 * 0.05 * 0.95)


def test_probation_treats_a_broken_run_as_regressed_and_refuses_unpaired_episodes():
    verdict = probation([1.0, 2.0], [1.0, math.nan], None, None, MAX_RETURN, SETTINGS)
    assert (verdict.outcome, verdict.p, verdict.mean_after) == ("regressed", None, None)
    with pytest.raises(ValueError, match="compared in pairs"):
        probation([1.0, 2.0], [1.0], None, None, MAX_RETURN, SETTINGS)
    with pytest.raises(ValueError, match="not finite"):
        probation([1.0, math.nan], [1.0, 2.0], None, None, MAX_RETURN, SETTINGS)


def evaluation(env_steps, returns, progress=None, points=None):
    return SimpleNamespace(env_steps=env_steps, sparse_returns=returns, progress=progress, points=points)


def test_later_half_mean():
    four = [evaluation(s, [float(s)] * 3, [s / 128] * 3) for s in (40, 10, 30, 20)]
    assert later_half_mean(four) == Measure(sparse_return=35.0, progress=35 / 128, succeeded=1.0, error=0.0)
    assert later_half_mean(four[:3]).sparse_return == 35.0  # 10, 30, 40: the later half is rounded up
    two = Measure(sparse_return=3.0, progress=None, succeeded=1.0, error=1.0)  # sqrt(2) / sqrt(2)
    assert later_half_mean([evaluation(1, [2.0, 4.0])]) == two
    one = Measure(sparse_return=2.0, progress=None, succeeded=1.0, error=None)  # no deviation of a single episode
    assert later_half_mean([evaluation(1, [2.0])]) == one
    rare = [evaluation(1, [0.0, 0.0, 0.0, 9.0]), evaluation(2, [0.0, 0.0, 0.0, 4.0]), evaluation(3, [0.0, 0.0, 4.0, 0])]
    assert (later_half_mean(rare).succeeded, later_half_mean(rare).error) == (0.25, pytest.approx(math.sqrt(1 / 3)))
    assert later_half_mean([evaluation(1, [2.0, math.nan], [0.1, math.nan])]) == Measure(
        sparse_return=None, progress=None, succeeded=None, error=None
    )
    with pytest.raises(ValueError, match="at least one"):
        later_half_mean([])


@pytest.mark.parametrize("points", [1, 2, 3, 4, 7])
def test_the_later_half_is_that_of_the_points_whichever_of_them_were_played(points):
    """A set that was not played at the earlier points is measured at the same positions."""
    every = [evaluation(at, [float(at)], points=points) for at in range(points)]
    measured = [each.env_steps for each in later_half(every)]
    assert measured == list(range(points // 2, points))
    for first in range(points // 2 + 1):
        assert [each.env_steps for each in later_half(every[first:])] == measured
    unknown = [evaluation(at, [float(at)]) for at in range(points)]
    assert [each.env_steps for each in later_half(unknown)] == measured, "as earlier versions played it"


@pytest.mark.parametrize(
    ("returns", "progress", "label"),
    [
        ([], None, "exploring"),
        ([0.0, 0.0, 0.0], [0.03, 0.04, 0.03], "exploring"),
        ([0.0, 0.0, 0.0], None, "exploring"),
        ([0.0, 0.01, 0.02], [0.03, 0.05, 0.08], "emerging"),
        ([0.0, 0.3], None, "emerging"),
        ([0.0, 0.0], [0.3, 0.2], "regressing"),
        ([0.0, 1.0, 2.0, 4.0], None, "improving"),
        ([4.0, 4.1, 4.0, 4.05], None, "plateau"),
        ([1.0, 4.0, 4.0, 4.0, 4.0, 4.1], None, "plateau"),
        ([1.0, 4.0, 3.0], None, "regressing"),
        ([1.0, 4.0, 3.3], None, "improving"),
    ],
)
def test_stage_label(returns, progress, label):
    values = progress or [None] * len(returns)
    history = [(index, r, p) for index, (r, p) in enumerate(zip(returns, values, strict=True))]
    assert stage_label(history, MAX_RETURN, SETTINGS.floor) == label
    assert stage_label(history[::-1], MAX_RETURN, SETTINGS.floor) == label


def test_stage_label_refuses_nan():
    with pytest.raises(ValueError, match="not finite"):
        stage_label([(0, math.nan, None)], MAX_RETURN, SETTINGS.floor)

"""Aggregates over runs and tasks: equal to rliable's, to closed forms, and refused where a score is missing."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.tools.study.aggregates import interquartile_mean, interval_of, probability_of_improvement

RNG = np.random.default_rng(7)
X = RNG.normal(1.0, 1.0, (6, 3))
Y = RNG.normal(0.5, 1.0, (5, 3)).round(1)
FROZEN = {
    "iqm": 0.8137175900052587,
    "poi": 0.8333333333333334,
    "iqm_interval": (0.462, 1.127),
    "poi_interval": (0.667, 0.956),
}
"""Of X and of (X, Y) by rliable 1.2.0, its intervals from 20,000 and 3,000 resamples."""


def test_the_middle_half_is_averaged_over_runs_and_tasks_together():
    assert interquartile_mean([[0.0], [1.0], [2.0], [100.0]]) == 1.5
    assert interquartile_mean([[3.0]]) == 3.0
    assert interquartile_mean(X) == pytest.approx(FROZEN["iqm"], abs=1e-12)
    assert interquartile_mean(X) != pytest.approx(X.mean(), abs=1e-3)  # the plain mean would be seen


def test_improvement_counts_pairs_within_tasks_and_half_of_every_tie():
    assert probability_of_improvement([[1.0], [2.0]], [[0.0], [2.0]]) == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert probability_of_improvement([[1.0]], [[1.0]]) == 0.5
    # Task by task: over all pairs together the second would win half of the time.
    assert probability_of_improvement([[1.0, 11.0]], [[0.0, 10.0]]) == 1.0
    assert probability_of_improvement(X, Y) == pytest.approx(FROZEN["poi"], abs=1e-12)
    assert probability_of_improvement(X, Y) + probability_of_improvement(Y, X) == pytest.approx(1.0)


def test_bootstrap_intervals_are_those_of_rliable():
    # 2,000 resamples place an end to about 0.01 of these spreads.
    assert interval_of(interquartile_mean, X) == pytest.approx(FROZEN["iqm_interval"], abs=0.06)
    assert interval_of(probability_of_improvement, X, Y) == pytest.approx(FROZEN["poi_interval"], abs=0.03)


def test_the_bootstrap_is_seeded_and_stays_within_tasks():
    assert interval_of(interquartile_mean, X) == interval_of(interquartile_mean, X)
    assert interval_of(interquartile_mean, X, seed=1) != interval_of(interquartile_mean, X)
    apart = np.array([[0.0, 100.0]] * 4)  # no run differs from another of its task, so nothing varies
    assert interval_of(lambda scores: float(scores.mean()), apart) == (50.0, 50.0)


def test_one_run_has_no_interval():
    assert interval_of(interquartile_mean, [[1.0, 2.0]]) is None
    assert interval_of(probability_of_improvement, X, Y[:1]) is None


@pytest.mark.parametrize("scores", [[[1.0, None]], [[1.0, float("nan")]], [], [1.0, 2.0], [[1.0], [1.0, 2.0]]])
def test_a_missing_score_is_refused(scores):
    with pytest.raises(ValueError, match="no value missing"):
        interquartile_mean(scores)


def test_wrong_questions_are_refused():
    with pytest.raises(ValueError, match="the same tasks"):
        probability_of_improvement(X, Y[:, :2])
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval_of(interquartile_mean, X, level=95)

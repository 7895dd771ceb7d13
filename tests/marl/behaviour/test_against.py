"""An arm against another: closed-form differences, and two arms that do the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learning_signal.marl.behaviour.against import against
from learning_signal.marl.behaviour.words.against import against_body
from learning_signal.marl.tasks import make_task
from tests.support.trainer_double import drifting_behaviour

SPEC = make_task("spread", 1).spec
NAME = "coverage_distance"


def shifted(by=0.0, rewarded=()):
    record = drifting_behaviour()
    rewards = record.rewards.copy()
    for step, episode in rewarded:
        rewards[step, episode] = 1.0
    features = record.features | {NAME: record.features[NAME] + np.float32(by)}
    return replace(record, features=features, rewards=rewards, sparse_returns=rewards.sum(axis=0).astype(float))


def of(found, name):
    return next(each for each in (*found.outcomes, *found.features, *found.actions) if each.name == name)


def test_differences_are_means_over_seeds_in_deviations():
    found = against([shifted(1.0), shifted(3.0)], [shifted(), shifted(0.5)], SPEC)
    deviation = float(np.nanstd(drifting_behaviour().features[NAME]))
    base = float(np.nanmean(drifting_behaviour().features[NAME]))
    first = found.features[0]
    assert (first.name, first.apart, found.seeds) == (NAME, True, (2, 2))
    assert (first.arm, first.other) == pytest.approx((base + 2.0, base + 0.25), rel=1e-4)
    assert first.size == pytest.approx(1.75 / deviation, rel=1e-4)
    overlapping = against([shifted(1.0), shifted(3.0)], [shifted(), shifted(2.0)], SPEC)
    assert of(overlapping, NAME).apart is False
    assert of(against([shifted(1.0)], [shifted(), shifted()], SPEC), NAME).apart is None


def test_successes_are_compared():
    found = against([shifted(rewarded=[(4, 0), (9, 0), (6, 1)])], [shifted(rewarded=[(10, 2)])], SPEC)
    episodes = len(drifting_behaviour().lengths)
    assert of(found, "episodes_with_reward").arm == 2 / episodes
    assert of(found, "successes_per_episode").size == pytest.approx(2 / episodes)
    assert (of(found, "step_of_first_reward").arm, of(found, "step_of_first_reward").other) == (5.0, 10.0)
    nothing = against([shifted(rewarded=[(4, 0)])], [shifted()], SPEC)
    assert all(each.name != "step_of_first_reward" for each in nothing.outcomes)  # one arm has none: missing, not 0


def test_arms_that_do_the_same_are_alike():
    body = against_body(against([shifted()] * 2, [shifted()] * 2, SPEC))
    assert set(body["features_alike"]) == {feature.name for feature in SPEC.features}
    assert "features" not in body and "actions" not in body and body["seeds_do_not_overlap_in"] == []
    # Two of four seeds are the two lowest, or the two highest, in 2 of the 6 ways to choose them.
    assert body["share_that_chance_alone_sets_apart"] == pytest.approx(1 / 3)
    assert "noise of training is not known" in against_body(against([shifted()], [shifted()] * 2, SPEC))["note"]


def test_an_arm_without_a_record_is_refused():
    with pytest.raises(ValueError, match="Found 0 and 1 behaviour records, expected at least one"):
        against([], [shifted()], SPEC)

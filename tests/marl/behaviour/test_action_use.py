"""Action use given a feature: closed-form shares, planted dependence and its absence, and what is said about it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from learning_signal.marl.behaviour.action_use import action_use
from learning_signal.marl.behaviour.bands import bands_of
from learning_signal.marl.behaviour.words.pieces import use_body, use_words
from learning_signal.marl.tasks.base import Feature, Group, TaskSpec

T, N, A = 25, 64, 2
NAMES = ("stay", "walk", "load")


def make_spec(*features, groups=(), continuous=False):
    return TaskSpec(
        name="toy",
        description="",
        sparse_reward="",
        agents=A,
        observation_size=1,
        state_size=1,
        actions=len(NAMES),
        action_names=NAMES,
        idle_action=None if continuous else 0,
        horizon=T,
        max_return=1.0,
        features=features,
        progress=None,
        continuous=continuous,
        groups=groups,
    )


def feature(name="beside", scope="agent", direction="higher"):
    return Feature(name, name, scope, 0.0, 10.0, direction)


def make_record(features, actions):
    return SimpleNamespace(features=features, actions=actions)


def drawn(rng, chances):
    """Actions drawn from ``chances [..., D]``."""
    return (rng.random(chances.shape[:-1])[..., None] > np.cumsum(chances, axis=-1)).sum(axis=-1).astype(np.int8)


def beside(rng, share=0.3, shape=(T + 1, N, A)):
    return (rng.random(shape) < share).astype(np.float32)


# --- bands ---


def test_few_values_have_a_band_each_and_many_have_equal_parts():
    few = bands_of(np.array([2.0, 0, 1, 1, 2, 2]), "higher")
    assert (few.lows, few.highs, few.good) == ((0, 1, 2), (0, 1, 2), 2)
    assert few.index.tolist() == [2, 0, 1, 1, 2, 2]
    many = bands_of(np.arange(1000.0), None)
    assert many.lows == (0, 250, 500, 750) and many.highs == (249, 499, 749, 999) and many.good is None


@pytest.mark.parametrize(("direction", "good"), [("lower", 0), ("higher", 4)])
def test_the_best_value_is_a_band_of_its_own_where_it_occurs_often_enough(direction, good):
    values = np.concatenate([np.arange(1000.0), np.full(50, {"lower": -1.0, "higher": 1000.0}[direction])])
    found = bands_of(values, direction)
    assert len(found.lows) == 5 and found.good == good and found.lows[good] == found.highs[good]
    assert (found.index == good).sum() == 50
    rare = bands_of(np.concatenate([np.arange(1000.0), values[-1:]]), direction)
    assert len(rare.lows) == 4 and rare.good is None


def test_a_value_that_most_steps_have_is_not_split():
    found = bands_of(np.concatenate([np.zeros(900), np.arange(1, 101)]), None)
    assert found.lows == (0, 1) and found.highs == (0, 100)
    assert bands_of(np.zeros(5), "higher").good is None


# --- shares by bands ---


def test_shares_are_those_of_the_steps_in_which_the_acting_agent_had_the_value():
    values = np.zeros((T + 1, N, A), np.float32)
    values[:, : N // 2, 0] = values[:, N // 4 :, 1] = 1
    actions = np.where(values[:T] == 1, 2, 0).astype(np.int8)
    actions[:5] = 1  # everybody walks at first, wherever it is
    [group] = action_use(make_record({"beside": values}, actions), make_spec(feature()))
    load = group.uses[2]
    assert (load.feature, load.depends, load.largest) == ("beside", "clearly", pytest.approx(0.8))
    beside_steps = T * (N // 2 + N * 3 // 4)
    assert [(band.low, band.steps, band.value) for band in load.bands] == [
        (0.0, group.steps - beside_steps, 0.0),
        (1.0, beside_steps, pytest.approx(0.8)),
    ]
    assert load.value == pytest.approx(0.8 * beside_steps / group.steps)
    walk = group.uses[1]
    assert (walk.depends, walk.largest, walk.feature) == ("hardly", 0.0, None)
    [contrast] = group.contrasts
    assert contrast.there == pytest.approx((0, 0.2, 0.8)) and contrast.elsewhere == pytest.approx((0.8, 0.2, 0))
    assert contrast.share == pytest.approx(beside_steps / group.steps)
    # The other agent's value tells nothing.
    [mixed] = action_use(make_record({"beside": values[:, ::-1, ::-1]}, actions), make_spec(feature()))
    assert mixed.uses[2].largest < 0.8


def test_a_team_feature_is_that_of_every_agent_and_steps_after_an_end_do_not_count():
    rng = np.random.default_rng(0)
    values = np.repeat(beside(rng, 0.5, (1, N)), T + 1, axis=0)
    actions = np.repeat(np.where(values[:T] == 1, 2, 1)[..., None], A, axis=2).astype(np.int8)
    actions[10:] = -1
    values[11:] = np.nan
    [group] = action_use(make_record({"open": values}, actions), make_spec(feature("open", "team")))
    assert group.steps == 10 * N * A
    assert [band.value for band in group.uses[2].bands] == [0.0, 1.0]


def test_loading_away_from_food_as_often_as_beside_it_is_said():
    rng = np.random.default_rng(1)
    values, noise = beside(rng, shape=(T + 1, 4 * N, A)), rng.random((T + 1, 4 * N, A))
    chances = np.where(values[:T, ..., None] == 1, (0.03, 0.4, 0.57), (0.05, 0.45, 0.5))
    spec = make_spec(feature(), feature("noise", "agent", None))
    [group] = action_use(make_record({"beside": values, "noise": noise}, drawn(rng, chances)), spec)
    load = group.uses[2]
    assert (load.depends, load.feature) == ("hardly", "beside")
    assert load.largest == pytest.approx(0.07, abs=0.03)
    [words] = use_words(group)
    assert words.startswith("No action depends on any of 2 features: at most ")
    body = use_body([group], True, True)
    assert body["at_best"]["beside 1 (30% of steps)"]["load"] == pytest.approx([0.57, 0.5], abs=0.03)
    # Negative control: an agent that has learnt it.
    learnt = np.where(values[:T, ..., None] == 1, (0.03, 0.07, 0.9), (0.1, 0.88, 0.02))
    [group] = action_use(make_record({"beside": values, "noise": noise}, drawn(rng, learnt)), spec)
    assert group.uses[2].depends == "clearly" and use_words(group) == []


def test_a_sentence_names_the_frequent_action_that_depends_weakly_with_both_shares():
    rng = np.random.default_rng(2)
    values, distance = beside(rng), rng.integers(1, 4, (T + 1, N, A)).astype(np.float32)
    load = 0.6 - 0.1 * (distance[:T] - 1)
    chances = np.stack([0 * load, 1 - load, load], axis=-1)
    spec = make_spec(feature(), feature("distance", "agent", None))
    [group] = action_use(make_record({"beside": values, "distance": distance}, drawn(rng, chances)), spec)
    assert group.uses[2].feature == "distance" and group.uses[2].depends == "weakly"
    [first, _] = use_words(group)
    assert "depends only weakly on any of 2 features: at most 2" in first and "where beside is 1, 5" in first
    assert "elsewhere" in first


def test_a_random_policy_depends_on_nothing_also_where_episodes_differ():
    # Every episode has its own value and its own habits: its steps are not independent.
    naive = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.integers(0, 2, (1, N, 1)), T + 1, axis=0) * np.ones(A)
        habits = rng.dirichlet((1, 1, 1), (1, N, A)) * np.ones((T, 1, 1, 1))
        [group] = action_use(make_record({"beside": values}, drawn(rng, habits)), make_spec(feature()))
        assert all(use.feature is None and use.depends in ("hardly", "unknown") for use in group.uses)
        naive.append(max(use.largest for use in group.uses) / np.sqrt(2 / 9 * 4 / group.steps))
    assert np.mean(np.array(naive) > 3) > 0.2  # negative control: by steps alone many would be beyond chance


def test_few_episodes_or_steps_tell_nothing():
    rng = np.random.default_rng(3)
    values = beside(rng, 0.5, (T + 1, 6, A))
    [group] = action_use(make_record({"beside": values}, (2 * values[:T]).astype(np.int8)), make_spec(feature()))
    assert {(use.depends, use.largest, use.feature) for use in group.uses} == {("unknown", None, None)}
    assert group.contrasts == () and use_words(group) == []


def test_groups_are_told_apart_and_one_that_never_acts_is_left_out():
    rng = np.random.default_rng(4)
    values = beside(rng, 0.5)
    actions = np.where(values[:T] == 1, 1, 0).astype(np.int8)
    actions[:, :, 1] = 1 - actions[:, :, 1]
    groups = (Group("scouts", (0,), 1, 3), Group("carriers", (1,), 1, 2))
    record, spec = make_record({"beside": values}, actions), make_spec(feature(), groups=groups)
    first, second = action_use(record, spec)
    assert [use.action for use in second.uses] == ["stay", "walk"]
    assert [band.value for band in first.uses[1].bands] == [0.0, 1.0]
    assert [band.value for band in second.uses[1].bands] == [1.0, 0.0]
    assert set(use_body([first, second], True, True)) == {"scouts", "carriers"}
    assert use_body([first], False, False)["shares"]["walk"] == pytest.approx(0.5, abs=0.05)
    actions[:, :, 1] = -1
    assert [group.group for group in action_use(record, spec)] == ["scouts"]


def test_numbers_have_means_by_band_and_differences_in_deviations():
    rng = np.random.default_rng(5)
    values, actions = beside(rng, 0.5), rng.normal(0, 0.2, (T, N, A, 3)).astype(np.float32)
    actions[..., 0] += values[:T] - 0.5
    [group] = action_use(make_record({"beside": values}, actions), make_spec(feature(), continuous=True))
    gas, wheel, _ = group.uses
    assert (gas.depends, gas.feature) == ("clearly", "beside")
    assert [band.value for band in gas.bands] == pytest.approx([-0.5, 0.5], abs=0.03)
    assert gas.largest == pytest.approx(1 / np.sqrt(0.25 + 0.04), abs=0.05)
    assert (wheel.depends, wheel.feature) == ("hardly", None)
    assert use_words(group) == []

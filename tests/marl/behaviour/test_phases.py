"""Features before a success: what leads to it is told from what it leaves behind, on records with known answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from learning_signal.marl.behaviour.phases import Concordance, Phases, clear_correlation

T, N = 20, 40


def make_record(first_rewards, again=None, lengths=None):
    """Episodes with a reward at these steps (None: without one), and with a second one where ``again`` says so."""
    rewards = np.zeros((T, len(first_rewards)), np.float32)
    for times in (first_rewards, again or []):
        for episode, step in enumerate(times):
            if step is not None:
                rewards[step, episode] = 1
    return SimpleNamespace(rewards=rewards, lengths=np.full(rewards.shape[1], T) if lengths is None else lengths)


def constant(values):
    return np.repeat(np.asarray(values, float)[None], T + 1, axis=0)


def test_lower_values_that_succeed_sooner_are_wholly_concordant():
    record = make_record([None if e >= 30 else e // 2 for e in range(N)])
    found = Phases(record).before_first(constant(np.arange(N)))
    # Whoever is still without success is higher; two that succeed at the same step are not compared.
    assert found.value == -1 and found.successes == 30 and found.clear
    assert Phases(record).before_first(-constant(np.arange(N))).value == pytest.approx(-found.value)
    assert Phases(record).before_first(constant(np.zeros(N))).value == 0


def test_what_a_success_leaves_behind_is_not_counted():
    # The distance is the same for all until the food is eaten, and large after it.
    eaten = [5 if e < 20 else None for e in range(N)]
    values = np.zeros((T + 1, N)) + np.random.default_rng(0).normal(0, 0.1, (T + 1, N))
    values[6:, :20] += 5
    found = Phases(make_record(eaten)).before_first(values)
    assert abs(found.value) < 0.5 and not found.clear
    assert values.mean(axis=0)[:20].min() > values.mean(axis=0)[20:].max()  # over whole episodes it looks decisive


def test_a_trend_in_time_is_not_taken_for_a_cause():
    # Distances fall from step to step, so those that succeed early are at larger ones; at the same step all agree.
    record = make_record([e % T for e in range(N)])
    found = Phases(record).before_first(np.repeat(np.arange(T, -1.0, -1)[:, None], N, axis=1))
    assert found.value == 0


def test_later_successes_are_compared_with_as_many_behind_them():
    second = [e % 10 + 8 if e < 20 else None for e in range(N)]
    record = make_record([2] * N, second)
    values = constant(np.where(np.arange(N) < 20, 1.0, 2.0))
    values[:3] = 7.0  # before the first success it is the same
    found = Phases(record)
    assert found.before_first(values) is None  # all succeed at once
    # At every step as many are left that will succeed (and are alike) as will not (and are higher), or fewer.
    assert found.before_later(values).value < -0.6 and found.before_later(values).successes == 20


def test_a_reward_that_lasts_is_one_success_and_few_of_them_are_no_evidence():
    record = make_record([3 if e < 12 else None for e in range(N)])
    record.rewards[3:9, :12] = 1
    found = Phases(record)
    assert found.before_first(constant(np.arange(N))).successes == 12
    assert found.before_later(constant(np.arange(N))) is None
    assert Phases(make_record([3] * 9 + [None] * 31)).before_first(constant(np.arange(N))) is None
    assert Phases(make_record([None] * N)).before_first(constant(np.arange(N))) is None
    assert Phases(make_record([3] * N)).before_first(constant(np.arange(N))) is None  # nobody to compare with


def test_an_episode_that_has_ended_is_nothing_to_compare_with():
    lengths = np.where(np.arange(N) < 20, T, 4)
    values = constant(np.arange(N))
    values[5:, 20:] = np.nan
    late = [10 if e < 19 else None for e in range(N)]
    found = Phases(make_record(late, lengths=lengths)).before_first(values)
    assert found.value == -1 and found.successes == 19  # with the one episode that goes on without a success
    assert Phases(make_record([10 if e < 20 else None for e in range(N)], lengths=lengths)).before_first(values) is None


def test_the_error_is_that_of_features_that_tell_nothing():
    # Few steps, so that many succeed at once and are compared with the same others.
    rng = np.random.default_rng(0)
    record = make_record([int(step) if step < 4 else None for step in rng.geometric(0.2, 60) - 1])
    found = [Phases(record).before_first(constant(rng.normal(size=60))) for _ in range(400)]
    values, errors = np.array([each.value for each in found]), {each.error for each in found}
    assert len(errors) == 1 and values.std() == pytest.approx(errors.pop(), rel=0.1)
    assert np.mean([each.clear for each in found]) < 0.02 and abs(values.mean()) < 0.03


def test_the_error_of_ten_among_ten_is_that_of_mann_and_whitney():
    record = make_record([5] * 10 + [None] * 10)
    assert Phases(record).before_first(constant(np.arange(20))).error == pytest.approx(np.sqrt(21 / 300))


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_hardly_ever_clear(seed):
    rng = np.random.default_rng(seed)
    record = make_record([int(step) if step < T else None for step in rng.geometric(0.05, 200)])
    walk = np.cumsum(rng.normal(0, 1, (T + 1, 200)), axis=0)
    assert not Phases(record).before_first(walk).clear


def test_clear_is_three_standard_errors():
    assert Concordance(value=-0.31, successes=12, error=0.1).clear
    assert not Concordance(value=0.29, successes=12, error=0.1).clear
    assert clear_correlation(-0.3, 101) and not clear_correlation(-0.29, 101)

"""What a summary says about moments of success, and about features that wait for others: closed-form records."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.behaviour.successes import moments_of_success
from learning_signal.marl.behaviour.summary import summarize
from learning_signal.marl.behaviour.waiting import waiting
from tests.marl.behaviour.test_behaviour import A, N, T, feature, make_record, make_spec

FETCHED, BROUGHT = 3, 6
"""Steps after which the first agent is at its first and at its second target; then it is sent away again."""


def errand() -> dict[str, np.ndarray]:
    """``first`` falls to 0 in ``FETCHED`` steps; ``second`` is 10 until then and falls to 1, then both begin anew."""
    first, second = np.full((T + 1, N, A), 5.0), np.full((T + 1, N, A), 10.0)
    first[: FETCHED + 1, :, 0] = np.linspace(5, 0, FETCHED + 1)[:, None]
    first[FETCHED:BROUGHT, :, 0] = 0
    second[FETCHED:BROUGHT, :, 0] = np.linspace(4, 1, BROUGHT - FETCHED)[:, None]
    return {"first": first, "second": second}


def rewarded(record, step, amount=2.0):
    record.rewards[step] = amount
    return record


FEATURES = (feature("first", "agent"), feature("second", "agent"))


def test_values_around_a_success_are_those_of_the_agent_that_changed():
    record = rewarded(make_record(errand()), BROUGHT - 1)
    summary = summarize(record, make_spec(FEATURES))
    assert (summary.successes.by, summary.successes.moments, summary.successes.reward) == ("sparse reward", N, 2.0)
    first, second = (one.at_success for one in summary.features)
    assert (first.before, first.after) == (0.0, 5.0)
    assert (second.before, second.after) == (1.0, 10.0)


def test_what_came_first_has_been_held_longest():
    record = rewarded(make_record(errand()), BROUGHT - 1)
    first, second = (one.at_success for one in summarize(record, make_spec(FEATURES)).features)
    assert (first.held, second.held) == (BROUGHT - FETCHED, 1)
    still = make_record({"d": np.full((T + 1, N), 3.0)})
    assert summarize(rewarded(still, BROUGHT - 1), make_spec([feature("d")])).features[0].at_success.held == BROUGHT


def test_a_success_that_lasts_is_one_moment():
    record = make_record({"d": np.repeat(np.arange(T + 1.0)[:, None], N, axis=1)})
    record.rewards[4:] = 1.0
    found = summarize(record, make_spec([feature("d")]))
    assert (found.successes.moments, found.features[0].at_success.before) == (N, 4.0)


def test_large_rises_of_progress_count_where_nothing_is_earned():
    record = make_record(errand())
    record.progress = np.zeros((T + 1, N))
    record.progress[2:] = 0.1
    record.progress[5:] = 0.6
    found = moments_of_success(record, make_spec(FEATURES))
    assert (found.summary.by, found.summary.moments, found.summary.reward) == ("progress", N, None)
    assert set(found.steps) == {4}
    assert moments_of_success(rewarded(record, BROUGHT - 1), make_spec(FEATURES)).summary.by == "sparse reward"


@pytest.mark.parametrize("progress", [None, np.zeros((T + 1, N)), np.full((T + 1, N), np.nan)])
def test_without_a_success_nothing_is_said(progress):
    record = make_record(errand())
    record.progress = progress
    summary = summarize(record, make_spec(FEATURES))
    assert summary.successes is None and all(one.at_success is None for one in summary.features)
    record.rewards[3, 0] = 1.0  # one moment is no evidence
    assert summarize(record, make_spec(FEATURES)).successes is None


def test_a_feature_waits_until_another_one_is_near_its_best():
    first, second = (waiting(one, FEATURES, errand()) for one in FEATURES)
    assert first is None
    assert second.until == ("first",)
    assert second.share == pytest.approx(1 - (BROUGHT - FETCHED) / (2 * (T + 1)))
    assert second.then == (pytest.approx(2.5), pytest.approx(np.std([4, 2.5, 1])))


def test_a_feature_that_moves_on_its_own_waits_for_nobody():
    values = errand()
    values["first"][...] = np.random.default_rng(0).permuted(values["first"], axis=0)
    assert waiting(FEATURES[1], FEATURES, values).until == ()


def test_a_team_feature_waits_for_the_agent_that_is_best_off():
    values = errand() | {"share": (errand()["second"].min(axis=2) == 10) * 10.0}
    team = feature("share")
    found = waiting(team, (FEATURES[0], team), values)
    assert found.until == ("first",) and found.then[1] == 0  # a switch
    values["first"] += 5  # now never near its best
    assert waiting(team, (FEATURES[0], team), values).until == ()


@pytest.mark.parametrize("direction", ["higher", None])
def test_what_is_not_mostly_at_its_worst_does_not_wait(direction):
    one = feature("second", "agent", direction)
    assert waiting(one, (FEATURES[0], one), errand()) is None

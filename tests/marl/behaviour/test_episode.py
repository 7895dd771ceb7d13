"""One episode as events: which is chosen, what is told around rewards, and that it fits."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from learning_signal.marl.behaviour.episode import episode_of, find_episode
from learning_signal.marl.behaviour.words.episode import render_episode
from learning_signal.marl.tasks.base import Feature, TaskSpec

T, N, A = 12, 4, 2
NAMES = ("stay", "left", "load")


def words(text):
    return len(re.findall(r"\w+", text))


def make_spec(**changes):
    feature = Feature("distance", "", "agent", 0.0, 20.0, "lower")
    fields = {"idle_action": 0, "progress": None, "continuous": False} | changes
    return TaskSpec(
        name="toy",
        description="",
        sparse_reward="",
        agents=A,
        observation_size=1,
        state_size=1,
        actions=len(NAMES),
        action_names=NAMES,
        horizon=T,
        max_return=1.0,
        features=(feature, Feature("left", "", "team", 0.0, 1.0, "lower")),
        **fields,
    )


def make_record(rewards=(), progress=None, length=T):
    """Episode 1 with these (step, reward); agent 0 walks for 4 steps, then loads, agent 1 stays."""
    earned = np.zeros((T, N), np.float32)
    for step, reward in rewards:
        earned[step, 1] = reward
    actions = np.zeros((T, N, A), np.int8)
    actions[:, 1, 0] = np.where(np.arange(T) < 4, 1, 2)
    actions[length:, 1] = -1
    distance = np.tile(np.arange(T, -1.0, -1)[:, None, None], (1, N, A)).astype(np.float32)
    return SimpleNamespace(
        task="toy",
        features={"distance": distance, "left": np.ones((T + 1, N), np.float32)},
        actions=actions,
        rewards=earned,
        progress=progress,
        lengths=np.array([T, length, T, T]),
        sparse_returns=earned.sum(axis=0).astype(float),
        progress_means=None,
    )


def lines(record, spec=None, most=10_000, episode=1):
    return json.loads(render_episode(episode_of(record, spec or make_spec(), episode), most, words))["lines"]


def test_episodes_are_found_by_return_and_a_rewarded_one_by_its_reward():
    record = make_record([(3, 1.0)])
    record.sparse_returns = np.array([0.0, 1.0, -1.0, 0.0])
    assert (find_episode(record, "best"), find_episode(record, "worst"), find_episode(record, "rewarded")) == (1, 2, 1)
    assert find_episode(record, "median") in (0, 3)
    with pytest.raises(ValueError, match="Found no reward in any of 4 episodes: ask for the best one"):
        find_episode(make_record(), "rewarded")
    with pytest.raises(ValueError, match="Found episode 4, expected one from 0 to 3"):
        episode_of(record, make_spec(), 4)


def test_a_reward_is_told_with_what_led_to_it_and_what_changed():
    assert lines(make_record([(8, 0.5)])) == [
        "t 0, start: distance 12|12, left 1",
        "t 0 to 4: left x4, load | stay x5",
        "t 5 to 7: load x3 | stay x3",
        "t 8, before: distance 4|4, left 1",
        "t 8: load | stay -> reward 0.5; then distance 3|3",
        "t 9 to 11: load x3 | stay x3",
        "t 12, end: distance 0|0, left 1",
    ]


def test_a_reward_that_lasts_is_one_event_and_two_apart_are_two():
    found = episode_of(make_record([(2, 1.0), (3, 1.0), (7, 2.0)]), make_spec(), 1)
    assert [(event.first, event.last, event.amount) for event in found.events] == [(2, 3, 2.0), (7, 7, 2.0)]
    assert [(each.first, each.last) for each in found.events[1].before] == [(4, 6)]
    told = lines(make_record([(2, 1.0), (3, 1.0), (7, 2.0)]))
    assert any("-> reward 2 in 2 steps" in line for line in told)
    assert lines(make_record([(0, -1.0)]))[1] == "t 0: left | stay -> reward -1; then distance 11|11"


def test_where_no_reward_is_earned_rises_of_progress_are_told():
    progress = np.zeros((T + 1, N), np.float32)
    progress[5:, 1], progress[9:, 1] = 0.4, 0.5
    spec = make_spec(progress="how far")
    record = make_record(progress=progress)
    record.progress_means = progress[1:].mean(axis=0)
    assert [line for line in lines(record, spec) if "->" in line] == [
        "t 4: load | stay -> progress +0.4; then distance 7|7"  # the rise of 0.1 is less than half of it
    ]
    body = json.loads(render_episode(episode_of(record, spec, 0), 10_000, words))
    assert body["note"] == "no reward and no rise of progress" and len(body["lines"]) == 3


def test_many_runs_become_shares_and_whoever_left_has_left():
    record = make_record(length=11)
    record.actions[:10, 1, 0] = [1, 2] * 5
    record.actions[6:, 1, 1] = -1
    assert lines(record)[1] == "t 0 to 10: load 55%, left 45% | stay x6"
    record.actions[:, 1, 1] = -1
    assert lines(record)[1].endswith("| has left") and lines(record)[-1].startswith("t 11, end")


def test_numbers_are_told_as_means():
    record = make_record([(8, 0.5)])
    record.actions = np.zeros((T, N, A, 3), np.float32)
    record.actions[:5, 1, 0, 0] = -1.0
    told = lines(record, make_spec(continuous=True, idle_action=None))
    assert told[1] == "t 0 to 4: stay -1, left 0, load 0 | stay 0, left 0, load 0"
    assert told[4].startswith("t 8: stay 0, left 0, load 0 | ")


def test_events_that_do_not_fit_are_named_with_their_times():
    record = make_record([(2, 1.0), (5, 1.0), (8, 1.0), (11, 1.0)])
    full = words(render_episode(episode_of(record, make_spec(), 1), 10_000, words))
    told = lines(record, most=full - 10)
    assert "not told: t 11 (reward 1)" in told and told[-1].startswith("t 12, end")
    least = shortest(record)
    for most in range(full, least, -5):
        assert words(render_episode(episode_of(record, make_spec(), 1), most, words)) <= most
    with pytest.raises(ValueError, match=f"takes {least} tokens, expected at most 5: allow at least {least}"):
        render_episode(episode_of(record, make_spec(), 1), 5, words)


def test_many_events_are_counted_and_many_features_left_out_by_how_little_they_move():
    record = make_record([(3, 1.0)])
    still = {f"still_{k}": np.full((T + 1, N, A), float(k), np.float32) for k in range(40)}
    record.features = still | record.features
    body = json.loads(render_episode(episode_of(record, make_spec(), 1), 200, words))
    assert "t 3, before: " in body["lines"][2] and "distance 9|9" in body["lines"][2]
    assert body["features_left_out_to_save_tokens"] > 20
    alternating = make_record([(step, float((-1) ** step)) for step in range(T)])
    told = lines(alternating, most=10_000)
    assert any(line.startswith("not told: t 5 (reward -1), ") for line in told)
    alternating.rewards = np.tile(alternating.rewards, (3, 1))
    for name, values in alternating.features.items():
        alternating.features[name] = np.concatenate([values] * 3)[: 3 * T + 1]
    alternating.actions, alternating.lengths = np.tile(alternating.actions, (3, 1, 1)), np.full(N, 3 * T)
    assert any(line.endswith(" and 21 more") for line in lines(alternating))


def shortest(record):
    """The fewest tokens that are not refused."""
    for most in range(5, 200):
        try:
            render_episode(episode_of(record, make_spec(), 1), most, words)
        except ValueError:
            continue
        return most
    raise AssertionError("no number is enough")

"""Behaviour summaries: closed-form records, planted effects and their absence, and the token budget."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from learning_signal.marl.behaviour.summary import summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.marl.behaviour.words.parts import CUTS, DEFAULT, Detail, Part
from learning_signal.marl.tasks.base import Feature, Group, TaskSpec

T, N, A = 8, 30, 2


def words(text):
    return len(re.findall(r"\w+", text))


def rendered(summary, most=10_000, parts=tuple(Part)):
    """The text with every part as JSON data, unless others are named."""
    return json.loads(render(summary, most, words, parts))


def features_of(body):
    """The rows of the table of features, each without what is not defined for it."""
    table = body["features"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def make_spec(features, progress="share of food eaten", agents=A, idle=0):
    return TaskSpec(
        name="toy",
        description="",
        sparse_reward="",
        agents=agents,
        observation_size=1,
        state_size=1,
        actions=3,
        action_names=("stay", "left", "right"),
        idle_action=idle,
        horizon=T,
        max_return=10.0,
        features=tuple(features),
        progress=progress,
    )


def feature(name, scope="team", direction="lower"):
    return Feature(name=name, description=name, scope=scope, low=0.0, high=10.0, direction=direction)


def make_record(features, actions=None, returns=None, progress_means=None, lengths=None, episodes=N, agents=A):
    lengths = np.full(episodes, T) if lengths is None else np.asarray(lengths)
    actions = np.zeros((T, episodes, agents), np.int8) if actions is None else actions
    actions = np.where((np.arange(T)[:, None] < lengths)[..., None], actions, -1).astype(np.int8)
    valid = np.arange(T + 1)[:, None] <= lengths
    masked = {
        name: np.where(valid if values.ndim == 2 else valid[..., None], values, np.nan).astype(np.float32)
        for name, values in features.items()
    }
    return SimpleNamespace(
        task="toy",
        features=masked,
        actions=actions,
        rewards=np.zeros((T, episodes)),
        progress=None,
        lengths=lengths,
        sparse_returns=np.zeros(episodes) if returns is None else np.asarray(returns, float),
        progress_means=None if progress_means is None else np.asarray(progress_means, float),
    )


def ramp(episodes=N):
    return np.repeat(np.arange(T + 1.0)[:, None], episodes, axis=1)


# --- features ---


def test_a_linear_feature_has_its_closed_form():
    found = summarize(make_record({"d": ramp()}), make_spec([feature("d")])).features[0]
    assert found.over_time == (0.0, 2.0, 4.0, 6.0, 8.0)
    assert (found.mean, found.standard_deviation) == pytest.approx((4.0, math.sqrt(60 / 9)))
    assert (found.by_agent, found.spread) == (None, None)


def test_time_points_follow_each_episodes_own_length_and_nothing_after_its_end_counts():
    lengths = [4] * N
    found = summarize(make_record({"d": ramp()}, lengths=lengths), make_spec([feature("d")])).features[0]
    assert found.over_time == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert found.mean == 2.0


def test_agent_features_are_told_apart():
    values = np.stack([ramp(), ramp() + 3], axis=2)
    found = summarize(make_record({"d": values}), make_spec([feature("d", "agent")])).features[0]
    assert found.by_agent == (4.0, 7.0)
    assert found.spread == 3.0
    assert found.over_time == (1.5, 3.5, 5.5, 7.5, 9.5)
    alike = summarize(make_record({"d": np.stack([ramp(), ramp()], axis=2)}), make_spec([feature("d", "agent")]))
    assert alike.features[0].spread == 0.0


def planted(seed=0):
    """``good`` falls with the return, ``noise`` does not, ``still`` never moves."""
    rng = np.random.default_rng(seed)
    returns = rng.permutation(N).astype(float)
    features = {
        "good": 5 - returns / N + np.zeros((T + 1, 1)),
        "noise": np.repeat(rng.uniform(0, 10, (1, N)), T + 1, axis=0),
        "still": np.full((T + 1, N), 0.1),
    }
    return features, returns


def test_a_planted_correlation_is_found_and_noise_is_not():
    features, returns = planted()
    found = summarize(make_record(features, returns=returns), make_spec(map(feature, features))).features
    assert found[0].with_return.episode_mean == pytest.approx(-1)
    assert found[0].with_return.episode_end == pytest.approx(-1)
    assert abs(found[1].with_return.episode_mean) < 0.4
    assert found[2].with_return.episode_mean is None  # constant, not uncorrelated
    assert found[0].with_progress.episode_mean is None  # no progress was measured


def test_correlation_is_none_where_every_return_is_equal():
    features, returns = planted()
    record = make_record(features, progress_means=returns / N)
    found = summarize(record, make_spec(map(feature, features))).features[0]
    assert found.with_return.episode_mean is None
    assert found.with_progress.episode_mean == pytest.approx(-1)


def test_the_end_can_correlate_where_the_mean_does_not():
    returns = np.arange(N) % 3.0
    values = np.zeros((T + 1, N))
    values[T], values[0] = returns, -returns
    found = summarize(make_record({"d": values}, returns=returns), make_spec([feature("d")])).features[0]
    assert found.with_return.episode_end == pytest.approx(1)
    assert found.with_return.episode_mean is None


def test_outcome_groups_use_returns_and_progress_only_when_returns_are_equal():
    features, returns = planted()
    spec = make_spec(map(feature, features))
    by_return = summarize(make_record(features, returns=returns, progress_means=np.zeros(N)), spec)
    assert (by_return.split.by, by_return.split.size) == ("sparse return", N // 3)
    assert (by_return.split.top_mean, by_return.split.bottom_mean) == (24.5, 4.5)
    assert by_return.features[0].top[0] == pytest.approx(5 - 24.5 / N)
    assert by_return.features[0].bottom[1] == pytest.approx(5 - 4.5 / N)
    by_progress = summarize(make_record(features, progress_means=returns / N), spec)
    assert by_progress.split.by == "progress"
    neither = summarize(make_record(features, progress_means=np.zeros(N)), spec)
    assert (neither.split, neither.features[0].top) == (None, None)


def test_progress_orders_the_episodes_of_equal_return():
    progress = np.linspace(0, 1, N)
    returns = np.where(np.arange(N) == 0, 1.0, 0.0)  # one success, by the episode of least progress
    values = np.repeat(progress[None], T + 1, axis=0)
    found = summarize(make_record({"d": values}, returns=returns, progress_means=progress), make_spec([feature("d")]))
    assert found.split.by == "sparse return"
    assert found.features[0].top[0] == pytest.approx(progress[[0, *range(N - 9, N)]].mean())
    assert found.features[0].bottom[0] == pytest.approx(progress[1:11].mean())


# --- actions ---


def actions_of(*rows):
    """One action sequence per agent, the same in every episode."""
    return np.repeat(np.array(rows, np.int8).T[:, None, :], N, axis=1)


def acting(*rows, idle=0):
    record = make_record({"d": ramp()}, actions=actions_of(*rows))
    return summarize(record, make_spec([feature("d")], idle=idle)).actions


def test_action_shares_idleness_and_oscillation():
    found = acting([1, 2] * 4, [0] * 6 + [1, 1])
    assert found.shares[0] == {"stay": 0.0, "left": 0.5, "right": 0.5}
    assert found.shares[1] == {"stay": 0.75, "left": 0.25, "right": 0.0}
    assert found.idle == (0.0, 0.75)
    assert found.oscillation == (1.0, 0.0)  # the second agent never returns to what it just left
    assert acting([1, 1, 2, 2, 1, 1, 2, 2], [0] * 8).oscillation == (0.0, 0.0)
    assert acting([1] * 8, [0] * 8, idle=None).idle is None


def test_role_difference():
    assert acting([1] * 8, [2] * 8).role_difference == pytest.approx(1)
    assert acting([1, 2] * 4, [2, 1] * 4).role_difference == pytest.approx(0)
    half = acting([1] * 8, [1, 2] * 4).role_difference
    assert half == pytest.approx(0.5 * (math.log2(1 / 0.75) + 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(2)))


def test_what_cannot_be_said_is_none():
    short = make_record({"d": ramp()}, lengths=[2] * N)
    assert summarize(short, make_spec([feature("d")])).actions.oscillation is None
    alone = make_record({"d": ramp()}, agents=1)
    assert summarize(alone, make_spec([feature("d")], agents=1)).actions.role_difference is None
    two = make_record({"d": np.ones((T + 1, 2)) * [1, 2]}, episodes=2, returns=[1, 2])
    summary = summarize(two, make_spec([feature("d")]))
    assert (summary.split, summary.features[0].with_return.episode_mean) == (None, None)


def test_actions_after_an_episodes_end_do_not_count():
    record = make_record({"d": ramp()}, actions=actions_of([1] * 4 + [2] * 4, [0] * 8), lengths=[4] * N)
    found = summarize(record, make_spec([feature("d")]))
    assert found.actions.shares[0]["left"] == 1.0
    assert found.sketches[0].actions[0] == (("left", 4),)


# --- groups, leaving, numbers ---


def grouped(spec, *groups):
    """``spec`` with groups of (agents, actions)."""
    made = tuple(Group(f"group {i}", agents, 1, actions) for i, (agents, actions) in enumerate(groups))
    return replace(spec, groups=made)


def test_agents_have_the_actions_of_their_group_and_roles_are_compared_within_it():
    spec = grouped(make_spec([feature("d")], agents=3), ((0, 2), 3), ((1,), 2))
    record = make_record({"d": ramp()}, actions=actions_of([1] * 8, [0] * 8, [2] * 8), agents=3)
    found = summarize(record, spec).actions
    assert [len(share) for share in found.shares] == [3, 2, 3] and list(found.shares[1]) == ["stay", "left"]
    assert found.role_difference == pytest.approx(1)  # of agents 0 and 2 alone
    alone = grouped(make_spec([feature("d")]), ((0,), 3), ((1,), 2))
    assert summarize(make_record({"d": ramp()}), alone).actions.role_difference is None
    # The idle action is one that the smaller group does not have.
    lacking = grouped(make_spec([feature("d")], idle=2), ((0,), 3), ((1,), 2))
    assert summarize(make_record({"d": ramp()}), lacking).actions.idle == (0.0, None)


def test_an_agent_that_left_is_counted_over_the_steps_it_acted_in():
    rows = actions_of([1, 2, 1, 2, 1, 2, 1, 2], [2, 2, 0, 0, 0, 0, 0, 0])
    rows[2:, :, 1] = -1
    spec = make_spec([feature("d")])
    summary = summarize(make_record({"d": ramp()}, actions=rows), spec)
    assert summary.actions.present == (1.0, 0.25)
    assert summary.actions.shares[1] == {"stay": 0.0, "left": 0.0, "right": 1.0}
    assert summary.actions.oscillation == (1.0, None)
    assert summary.sketches[0].actions[1] == (("right", 2),)
    body = json.loads(render(summary, 10_000, words))
    assert body["actions"]["present"] == [1.0, 0.25] and "present" in body["legend"]
    rows[:, :, 1] = -1
    never = summarize(make_record({"d": ramp()}, actions=rows), spec)
    assert (never.actions.shares[1], never.actions.idle[1], never.actions.role_difference) == (None, None, None)
    for budget in (shortest(never), 10_000):
        json.loads(render(never, budget, words))
    everybody = summarize(make_record({"d": ramp()}), spec)
    assert everybody.actions.present is None and "present" not in render(everybody, 10_000, words)


def continuous(agents=A):
    """A record and a task of two numbers, of which the second group has one."""
    spec = make_spec([feature("d")], idle=None)
    spec = replace(spec, continuous=True, actions=2, action_names=("gas", "wheel"))
    spec = grouped(spec, ((0,), 2), ((1,), 1))
    record = make_record({"d": ramp()})
    record.actions = np.zeros((T, N, agents, 2), np.float32)
    record.actions[..., 0] = np.where(np.arange(T) < 4, -0.5, 0.5)[:, None, None]
    record.actions[:, :, 1, 1] = np.nan
    return record, spec


def test_numbers_have_a_mean_and_a_deviation_and_no_shares():
    summary = summarize(*continuous())
    found = summary.actions
    assert found.numbers[0] == {"gas": (0.0, 0.5), "wheel": (0.0, 0.0)} and found.numbers[1] == {"gas": (0.0, 0.5)}
    assert (found.shares, found.idle, found.oscillation, found.role_difference) == (None,) * 4
    [best, *_] = summary.sketches
    assert best.actions is None and best.numbers[1] == {"gas": (-0.5, -0.5, 0.5, 0.5)}
    body = rendered(summary)
    assert body["actions"]["numbers"] == {"gas": [[0.0, 0.5]] * 2, "wheel": [[0.0, 0.0], None]}
    assert "shares_by_agent" not in body["actions"]
    assert body["episodes_shown"][0]["actions"][1] == {"gas": [-0.5, -0.5, 0.5, 0.5]}
    assert "numbers" in body["legend"] and "oscillation" not in body["legend"]
    assert "numbers" not in rendered(summary, shortest(summary))["actions"]


def test_numbers_of_an_agent_that_left_count_until_then():
    record, spec = continuous()
    record.actions[4:, :, 0] = np.nan
    found = summarize(record, spec)
    assert found.actions.numbers[0]["gas"] == (-0.5, 0.0) and found.actions.present == (0.5, 1.0)
    assert found.sketches[0].numbers[0]["gas"] == (-0.5,) * 4


def test_early_ends_and_whether_they_are_good():
    lengths = np.where(np.arange(N) < 10, 4, T)
    returns = np.where(np.arange(N) < 10, 0.0, 1.0)
    spec = make_spec([feature("d")])
    bad = summarize(make_record({"d": ramp()}, lengths=lengths, returns=returns), spec)
    assert (bad.ended_early, bad.steps_with_return) == pytest.approx((1 / 3, 1))
    assert bad.steps_with_progress is None
    assert json.loads(render(bad, 10_000, words))["ended_early"] == {
        "share": 0.333,
        "with_return": 1.0,
        "with_progress": None,
    }
    full = summarize(make_record({"d": ramp()}), spec)
    assert full.ended_early == 0 and "ended_early" not in json.loads(render(full, 10_000, words))["legend"]


# --- episodes ---


def test_best_median_and_worst_episode():
    features, returns = planted()
    record = make_record(features, actions=actions_of([1, 1, 1, 0, 2, 2, 0, 0], [0] * 8), returns=returns)
    sketches = summarize(record, make_spec(map(feature, features))).sketches
    assert [sketch.rank for sketch in sketches] == ["best", "median", "worst"]
    assert [sketch.sparse_return for sketch in sketches] == [29.0, 14.0, 0.0]
    assert sketches[0].episode == int(np.argmax(returns))
    assert sketches[0].actions[0] == (("left", 3), ("stay", 1), ("right", 2), ("stay", 2))
    assert sketches[2].features["good"] == pytest.approx((5.0,) * 5)
    one = summarize(make_record({"d": ramp(1)}, episodes=1), make_spec([feature("d")]))
    assert [sketch.rank for sketch in one.sketches] == ["best"]


def test_progress_breaks_ties_between_episodes():
    progress = np.linspace(0, 1, N)
    record = make_record({"d": ramp()}, progress_means=progress)
    assert summarize(record, make_spec([feature("d")])).sketches[0].episode == N - 1


def test_records_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no missing"):
        summarize(make_record({"d": ramp()}), make_spec([feature("missing")]))
    with pytest.raises(ValueError, match="no episode"):
        summarize(make_record({"d": ramp(0)}, episodes=0), make_spec([feature("d")]))


# --- text ---


def full_summary():
    features, returns = planted()
    rng = np.random.default_rng(1)
    features["near"] = rng.uniform(0, 10, (T + 1, N, A))
    record = make_record(features, actions=rng.integers(0, 3, (T, N, A)), returns=returns, progress_means=returns / N)
    scopes = [feature(name, "agent" if name == "near" else "team") for name in features]
    return summarize(record, make_spec(scopes))


def test_the_full_text_says_everything():
    summary = full_summary()
    body = json.loads(render(summary, 10_000, words, Part), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert "left_out" not in body
    assert body["sparse_return"] == {"mean": 14.5, "range": [0.0, 29.0], "share_of_episodes_above_0": 0.967}
    assert (body["task"], body["episodes"], body["progress"]) == ("toy", N, 0.483)
    assert body["thirds"] == {"by": "sparse return", "size": 10, "top_mean": 24.5, "bottom_mean": 4.5}
    good, *others = features_of(body)
    assert json.dumps(body["features"]).count("standard_deviation") == 1  # a table names its columns once
    assert good == {
        "name": "good",
        "over_time": [4.52] * 5,
        "mean": 4.52,
        "standard_deviation": 0.289,
        "top": [4.18, 4.18],
        "bottom": [4.85, 4.85],
        "with_return": [-1.0, -1.0],
        "with_progress": [-1.0, -1.0],
    }
    still = next(each for each in others if each["name"] == "still")
    assert still is others[-1]  # the most telling feature comes first, the least telling last
    assert still["with_return"] == [None, None]
    assert [len(shares) for shares in body["actions"]["shares_by_agent"].values()] == [A, A, A]
    assert [len(body["actions"][key]) for key in ("idle", "oscillation")] == [A, A]
    assert [shown["rank"] for shown in body["episodes_shown"]] == ["best", "median", "worst"]
    assert "quarter" in body["legend"]["over_time"]


def test_runs_of_actions_are_written_shortly_and_cut_openly():
    spec, rows = make_spec([feature("d")]), ([1, 1, 1, 0, 2, 2, 0, 0], [0] * 8)
    summary = summarize(make_record({"d": ramp()}, actions=actions_of(*rows)), spec)
    shown = rendered(summary)["episodes_shown"][0]["actions"]
    assert shown == ["left x3, stay, right x2, stay x2", "stay x8"]
    restless = summary.sketches[0].model_copy(update={"actions": ((("left", 1), ("stay", 2)) * 8,)})
    assert rendered(summary.model_copy(update={"sketches": (restless,)}))["episodes_shown"][0]["actions"][0].endswith(
        "stay x2, and 4 more runs"
    )


def test_any_budget_is_respected_and_what_is_missing_is_named():
    summary = full_summary()
    full, least = words(render(summary, 10_000, words, Part)), shortest(summary)
    lengths = []
    for budget in range(full, least - 1, -1):
        text = render(summary, budget, words, Part)
        assert words(text) <= budget
        assert ("left_out" in json.loads(text)) == (budget < full)
        lengths.append(words(text))
    assert len(set(lengths)) > 6  # negative control: the budget did something


def test_parts_and_details_go_in_the_stated_order():
    summary, levels = full_summary(), []
    for budget in range(words(render(summary, 10_000, words, Part)), shortest(summary) - 1, -1):
        note = rendered(summary, budget).get("left_out", {})
        named = [*note.get("parts", []), *note.get("to_save_tokens", [])]
        levels.append(max((index + 1 for index, cut in enumerate(CUTS) if cut in named), default=0))
        gone = {cut for cut in CUTS[: levels[-1]] if isinstance(cut, Part)}
        details = {Detail.EPISODE_ACTIONS, Detail.EPISODE_FEATURES} if Part.EPISODES in gone else set()
        details |= {Detail.CONTRASTS, Detail.BANDS} if Part.ACTION_USE in gone else set()
        assert {cut for cut in CUTS[: levels[-1]] if cut not in details} <= set(named)  # a part's name is enough
    assert levels == sorted(levels)
    assert levels[0] == 0 and levels[-1] == len(CUTS)


def test_without_parts_a_default_is_shown_and_the_others_are_named():
    body = json.loads(render(full_summary(), 10_000, words))
    assert body["left_out"] == {"parts": ["episodes"]} and "episodes_shown" not in body
    assert {"task", "thirds", "features", "actions", "action_use"} <= set(body) and Part.EPISODES not in DEFAULT


def test_a_part_is_shown_alone_where_it_is_named_and_stays_where_it_hardly_fits():
    summary = full_summary()
    for part, key in {"episodes": "episodes_shown", "action_use": "action_use", "outcome": "thirds"}.items():
        body = rendered(summary, parts=(part,))
        assert key in body and "task" not in body and "actions" not in body and "left_out" not in body
    agents = features_of(rendered(summary, parts=("agents",)))
    assert [set(row) for row in agents] == [{"name", "by_agent", "difference_between_agents"}]
    assert all("with_return" not in row for row in features_of(rendered(summary, parts=("outcome",))))
    full = words(render(summary, 10_000, words, ["episodes"]))
    cut = rendered(summary, full - 1, ("episodes",))
    assert cut["left_out"] == {"to_save_tokens": ["actions of the episodes shown"]} and cut["episodes_shown"]
    both = rendered(summary, full, ("overview", "episodes"))
    assert "task" in both and both["left_out"]["to_save_tokens"] == ["actions of the episodes shown"]
    with pytest.raises(ValueError, match="'episode' is not a valid Part"):
        render(summary, 10_000, words, ["episode"])


def test_what_is_left_out_is_not_there():
    body = rendered(full_summary(), shortest(full_summary()))
    assert "episodes_shown" not in body and "thirds" not in body and "shares_by_agent" not in body["actions"]
    assert body["left_out"]["to_save_tokens"][1].endswith("less with the outcome: noise, still, near")
    assert [each["name"] for each in features_of(body)] == ["good"]
    assert set(body["features"]["columns"]) & {"top", "by_agent"} == set()
    assert (len(features_of(body)[0]["over_time"]), body["legend"]["over_time"]) == (2, "means at start, end")


def test_an_impossible_budget_is_refused_with_the_number_that_would_do():
    with pytest.raises(ValueError, match="allow at least") as raised:
        render(full_summary(), 10, words, Part)
    needed = int(str(raised.value).rsplit(" ", 1)[1].rstrip("."))
    assert needed == shortest(full_summary())


def shortest(summary):
    """The smallest budget that is not refused."""
    for budget in range(10, 1000):
        try:
            render(summary, budget, words, Part)
        except ValueError:
            continue
        return budget
    raise AssertionError("no budget is enough")


# --- features before successes ---


def eaten(noise=0.5):
    """Half of the episodes eat at step 2, those nearest; what they then see is far away."""
    rng = np.random.default_rng(3)
    near = np.arange(N) < N // 2
    distance = np.where(near, 2.0, 4.0) + rng.normal(0, noise, (T + 1, N))
    distance[3:, near] += 6.0
    record = make_record({"d": distance}, returns=near.astype(float))
    record.rewards[2, near] = 1.0
    return record


def test_a_correlation_that_successes_turn_round_is_named_in_words():
    summary = summarize(eaten(), make_spec([feature("d")]))
    [found] = summary.features
    assert found.with_return.episode_mean > 0.6 and found.before_first.value < -0.6
    assert found.misleading == max(found.with_return.episode_mean, found.with_return.episode_end)
    body = rendered(summary)
    assert features_of(body)[0]["with_next_success"] == [round(found.before_first.value, 2), None]
    assert body["beware"].startswith(f"Do not follow with_return of d ({found.misleading:+.2f}, but -")
    assert "with_next_success" in body["legend"]


def test_a_correlation_that_nothing_before_a_success_bears_out_is_named_too():
    record = eaten()
    record.features["d"][:3] = 3.0  # the same for all until the food is eaten
    assert "no more than chance" in rendered(summarize(record, make_spec([feature("d")])))["beware"]
    # Without a direction nobody would follow it, and in the declared direction nothing is wrong.
    for direction in (None, "higher"):
        assert "beware" not in rendered(summarize(record, make_spec([feature("d", direction=direction)])))


def test_a_correlation_that_agrees_is_no_warning():
    record = eaten()
    record.features["d"][3:] -= 6.0 * (record.sparse_returns > 0)
    found = summarize(record, make_spec([feature("d")]))
    assert found.features[0].with_return.episode_mean < -0.6 and found.features[0].misleading is None
    assert "beware" not in rendered(found)

"""Evaluation: disjoint fixed episodes, unshaped returns counted to each episode's own end, behaviour written down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.policy import Inputs, Player, Policy, greedy
from learning_signal.marl.segments.evaluation import Evaluator, _Recorder, evaluation_environments, evaluators
from learning_signal.marl.segments.records import SETS, BehaviourRecord
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.tasks import make_task
from tests.support.sanity_tasks import Crew, Cue, Number, Recall

N = 6
EVERY = len(SETS) * N


def settings(**changes) -> RunSettings:
    evaluation = EvaluationSettings(**({"episodes": N, "points": 2} | changes))
    return RunSettings(task="cue", learner=LearnerSettings(hidden=(8,)), evaluation=evaluation)


def decided(task, seed: int = 0, memory: str = "none") -> Policy:
    """A policy that is far from uniform, so that it matters."""
    hidden = (8,) if memory == "none" else (8, 8)
    policy = make_learner(task.spec, LearnerSettings(hidden=hidden, memory=memory), seed).policy
    for actor in policy.actors:
        last = actor.weights[-1] if memory == "none" else actor.layers["output"]
        last.mul_(300)
    return policy


class _Remembering(Cue):
    """Remembers the seeds of its episodes."""

    def reset(self, seeds, where=None):
        self.seeds = np.array(seeds)
        return super().reset(seeds, where)


def seeds_of(run: RunSettings) -> list[int]:
    """The seeds of the episodes that an evaluation plays, set after set."""
    task = _Remembering(EVERY)
    Evaluator(run, task).evaluate(decided(task), 0, record=False)
    return task.seeds.tolist()


def test_the_sets_are_disjoint_and_always_the_same():
    seeds = seeds_of(settings())
    assert len(set(seeds)) == EVERY and seeds_of(settings()) == seeds
    assert not set(seeds_of(settings().model_copy(update={"evaluation_seed": 1}))) & set(seeds)
    task = Cue(EVERY)
    evaluator, policy = Evaluator(settings(), task), decided(task)
    first, _ = evaluator.evaluate(policy, 10, record=False)
    repeated, _ = evaluator.evaluate(policy, 10, record=True)
    assert first == repeated and [one.set for one in first] == list(SETS)
    assert first[0].sparse_returns != first[1].sparse_returns
    different, _ = evaluator.evaluate(decided(task, 1), 10, record=False)
    assert different != first


def test_a_set_does_not_depend_on_how_many_others_play():
    """The episodes of a smaller evaluation are the first ones of a larger."""
    few, _ = Evaluator(settings(), Cue(EVERY)).evaluate(decided(Cue(1)), 0, record=False)
    many, _ = Evaluator(settings(episodes=2 * N), Cue(2 * EVERY)).evaluate(decided(Cue(1)), 0, record=False)
    for small, large in zip(few, many, strict=True):
        assert small.sparse_returns == large.sparse_returns[:N]


@pytest.mark.parametrize("policy", ["sampled", "greedy"])
@pytest.mark.parametrize("terminates", [False, True])
def test_returns_count_to_the_end_of_each_episode_and_no_further(policy, terminates):
    task = Cue(EVERY, varied=True, terminates=terminates)
    evaluator = Evaluator(settings(policy=policy), task)
    playing = decided(task)
    results, record = evaluator.evaluate(playing, 50, record=True)
    query = results[0]
    assert query.env_steps == 50
    assert 1 <= record.lengths.min() < record.lengths.max() <= 4

    for episode in range(N):  # one by one, with the recorded actions
        single = Cue(1, varied=True, terminates=terminates)
        observations = single.reset(evaluator._seeds[episode : episode + 1])
        total, progress = 0.0, []
        for t in range(record.lengths[episode]):
            if policy == "greedy":
                inputs = Inputs(task.spec, (1,))
                inputs.write(observations)
                network = playing.actors[0]
                best = network.forward(inputs.groups[0][0], network.workspace(2)).argmax(0)
                assert record.actions[t, episode].tolist() == best.tolist()
            assert record.features["right"][t, episode] == pytest.approx(single.features()["right"][0])
            step = single.step(record.actions[t, episode][None].astype(np.int64))
            observations = step.observations
            assert record.rewards[t, episode] == step.reward[0]
            total += float(step.reward[0])
            progress.append(float(single.progress()[0]))
            assert record.progress[t + 1, episode] == pytest.approx(progress[-1])
        assert (step.terminated | step.truncated).all()
        assert query.sparse_returns[episode] == record.sparse_returns[episode] == pytest.approx(total)
        assert query.progress[episode] == record.progress_means[episode] == pytest.approx(np.mean(progress))


def test_after_the_end_nothing_is_recorded():
    task = Cue(EVERY, varied=True)
    _, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    steps = np.arange(4)[:, None]
    over = steps >= record.lengths
    assert over.any()
    assert (record.actions[over] == -1).all() and (record.actions[~over] >= 0).all()
    assert np.array_equal(np.isnan(record.rewards), over)
    assert np.array_equal(np.isnan(record.features["right_share"][1:]), over)
    assert np.array_equal(np.isnan(record.features["right"][1:]).all(axis=2), over)
    assert not np.isnan(record.features["right"][0]).any()


def test_sampled_actions_are_drawn_and_greedy_ones_are_not():
    task = Cue(EVERY)
    undecided = make_learner(task.spec, LearnerSettings(hidden=(8,)), 0).policy  # near uniform
    drawn = Evaluator(settings(), task).evaluate(undecided, 0, record=True)[1].actions
    assert len(np.unique(drawn)) == 3
    chosen = Evaluator(settings(policy="greedy"), task).evaluate(undecided, 0, record=True)[1]
    assert not np.array_equal(drawn, chosen.actions)


def test_means():
    task = make_task("spread", EVERY)
    results, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    assert results[2].sparse_return == pytest.approx(np.mean(results[2].sparse_returns))
    assert results[2].mean_progress == pytest.approx(np.mean(results[2].progress))
    assert record.features["coverage_distance"].shape == (26, N)
    assert record.actions.shape == (25, N, 3) and record.actions.dtype == np.int8


def test_record_survives_the_disk(tmp_path):
    task = Cue(EVERY, varied=True)
    _, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    record.save(tmp_path / "behaviour.npz")
    loaded = BehaviourRecord.load(tmp_path / "behaviour.npz")
    assert loaded.task == "cue" and loaded.features.keys() == record.features.keys()
    for name in ("actions", "rewards", "progress", "lengths", "sparse_returns", "progress_means"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(record, name))
    np.testing.assert_array_equal(loaded.features["right"], record.features["right"])


class _NoProgress(Cue):
    def __init__(self, environments: int) -> None:
        super().__init__(environments)
        self.spec = replace(self.spec, progress=None)

    def progress(self) -> None:
        return None


def test_missing_progress_stays_missing(tmp_path):
    task = _NoProgress(EVERY)
    results, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    assert results[0].progress is None and results[0].mean_progress is None
    assert record.progress is None and record.progress_means is None
    record.save(tmp_path / "behaviour.npz")
    assert BehaviourRecord.load(tmp_path / "behaviour.npz").progress is None


def test_a_task_of_another_size_is_refused():
    words = "has 5 environments, expected 4 sets of 6 episodes, one or a part; make it with 24 or 6"
    with pytest.raises(ValueError, match=words):
        Evaluator(settings(), Cue(5))
    with pytest.raises(ValueError, match="expected 2 sets of 6 episodes, one or a part; make it with 12 or 6"):
        Evaluator(settings(), Cue(18), ("query", "screen"))


@pytest.mark.parametrize("policy", ["greedy", "sampled"])
def test_one_set_after_the_other_gives_what_all_at_once_give(policy):
    together, apart = Cue(EVERY, varied=True), Cue(N, varied=True)
    playing = decided(together)
    results, record = Evaluator(settings(policy=policy), together).evaluate(playing, 0, record=True)
    again, same = Evaluator(settings(policy=policy), apart).evaluate(playing, 0, record=True)
    assert results == again
    assert np.array_equal(record.actions, same.actions) and np.array_equal(record.lengths, same.lengths)


@pytest.mark.parametrize("sets", [("query",), ("screen", "confirm"), ("query", "confirm", "report")])
def test_a_set_does_not_depend_on_which_others_play(sets):
    task = Cue(len(sets) * N, varied=True)
    playing = decided(task)
    whole, _ = Evaluator(settings(), Cue(EVERY, varied=True)).evaluate(playing, 7, record=False)
    part, _ = Evaluator(settings(), task, sets).evaluate(playing, 7, record=False)
    assert part == [each for each in whole if each.set in sets]


def test_what_is_recorded_is_played():
    with pytest.raises(ValueError, match="found the sets screen in 6 environments, expected query first"):
        Evaluator(settings(), Cue(N), ("screen",)).evaluate(decided(Cue(1)), 0, record=True)


def test_held_out_episodes_have_a_seed_of_their_own_and_the_query_episodes_do_not():
    plain, held_out = settings(), settings().model_copy(update={"held_out_seed": 5})
    same = plain.model_copy(update={"held_out_seed": plain.evaluation_seed})
    of_plain, of_held_out = seeds_of(plain), seeds_of(held_out)
    assert of_held_out[:N] == of_plain[:N] and not set(of_held_out[N : 3 * N]) & set(of_plain)
    assert of_held_out[3 * N :] == of_plain[3 * N :], "what is reported is measured on the same episodes in every arm"
    assert seeds_of(same) == of_plain and seeds_of(held_out) == of_held_out
    task = Cue(EVERY, varied=True)
    playing = decided(task)
    one, other = (Evaluator(run, task).evaluate(playing, 0, record=False)[0] for run in (plain, held_out))
    assert one[0] == other[0] and one[1] != other[1] and one[2] != other[2] and one[3] == other[3]


def test_env_steps_of_episodes_are_counted_to_their_ends():
    task = Cue(EVERY, varied=True)
    results, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    assert results[0].episode_steps == record.lengths.sum() < N * task.spec.horizon
    assert all(N <= each.episode_steps <= N * task.spec.horizon for each in results)


def test_sets_that_play_together_share_a_task_with_others_of_their_size():
    made = []

    def make(name, environments):
        made.append(environments)
        return Cue(environments)

    run = settings()
    both = evaluators(run, [("query",), ("screen",), ("query", "confirm"), ("query",)], make)
    assert made == [N, 2 * N] and both[("query",)].task is both[("screen",)].task
    made.clear()
    evaluators(run.model_copy(update={"task": "some.module:make"}), [("query",), ("query", "confirm")], make)
    assert made == [N], "one set at a time"


def test_environments_of_somebody_else_play_one_set_at_a_time():
    assert evaluation_environments(RunSettings.model_validate({"task": "spread"})) == 4 * 256
    theirs = RunSettings.model_validate({"task": "some.module:make"})
    assert evaluation_environments(theirs) == 64
    many = theirs.model_copy(update={"evaluation": theirs.evaluation.model_copy(update={"episodes": 640})})
    assert (evaluation_environments(many, ("confirm",)), evaluation_environments(many, ("query",))) == (64, 640)


def test_a_set_played_in_parts_is_the_same_and_is_not_recorded():
    task, whole = Cue(N // 2), Cue(N)
    playing = decided(whole)
    parts, once = (Evaluator(settings(), each, ("query",)) for each in (task, whole))
    (found,), _ = parts.evaluate(playing, 0, record=False)
    (expected,), _ = once.evaluate(playing, 0, record=False)
    assert found == expected and len(found.sparse_returns) == N
    with pytest.raises(ValueError, match="all of its .* episodes at once"):
        parts.evaluate(playing, 0, record=True)


# Memory, numbers, groups


def test_memory_lasts_an_episode_and_no_longer():
    """Recorded actions are those of every episode played by itself, from an empty memory."""
    task = Cue(EVERY, varied=True)
    playing = decided(task, memory="gru")
    evaluator = Evaluator(settings(policy="greedy"), task)
    _, record = evaluator.evaluate(playing, 0, record=True)
    for episode in range(N):
        single, player = Cue(1, varied=True), Player(playing, 1)
        inputs = Inputs(task.spec, (1,))
        observations = single.reset(evaluator._seeds[episode : episode + 1])
        for t in range(record.lengths[episode]):
            inputs.write(observations)
            actions = player.act(inputs.groups, torch.zeros(1, 2, 1), greedy).numpy()
            assert record.actions[t, episode].tolist() == actions[0].tolist()
            observations = single.step(actions).observations
    for actor in playing.actors:
        actor.layers["memory_gates"].zero_()
    _, forgetful = evaluator.evaluate(playing, 0, record=True)
    assert not np.array_equal(record.actions, forgetful.actions), "memory must matter for this test to mean anything"


@pytest.mark.parametrize("policy", ["sampled", "greedy"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_an_evaluation_does_not_depend_on_the_one_before(policy, memory):
    """A player of its own each time: nothing is remembered from evaluation to evaluation."""
    task = Recall(EVERY)
    one, other = decided(task, 0, memory), decided(task, 1, memory)
    evaluator = Evaluator(settings(policy=policy), task)
    first = evaluator.evaluate(one, 0, record=True)
    evaluator.evaluate(other, 0, record=True)
    second = evaluator.evaluate(one, 0, record=True)
    assert first[0] == second[0] and np.array_equal(first[1].actions, second[1].actions)


@pytest.mark.parametrize("policy", ["sampled", "greedy"])
def test_numbers_are_taken_within_bounds(policy):
    """`Number` refuses numbers outside [-1, 1]; the policy's own are far outside."""
    task = Number(EVERY, varied=True)
    playing = decided(task)
    for actor in playing.actors:
        actor.biases[-1][: actor.outputs // 2] = 5.0
    results, _ = Evaluator(settings(policy=policy), task).evaluate(playing, 0, record=False)
    again, _ = Evaluator(settings(policy=policy), task).evaluate(playing, 0, record=False)
    assert results == again


def test_groups_and_agents_that_leave():
    task = Crew(EVERY, leaving=True, varied=True)
    results, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    few, _ = Evaluator(settings(), task).evaluate(decided(task), 0, record=False)
    assert results == few
    assert record.features["right"].shape == (5, N, 3)
    there = record.actions >= 0
    assert there[..., 0].sum() == record.lengths.sum() and there[..., 2].sum() < record.lengths.sum()
    for episode in range(N):  # replayed one by one: who is there acts, who left does not
        single = Crew(1, leaving=True, varied=True)
        single.reset(Evaluator(settings(), Crew(EVERY, leaving=True))._seeds[episode : episode + 1])
        alive = np.ones(3, bool)
        for t in range(record.lengths[episode]):
            assert np.array_equal(there[t, episode], alive)
            alive = single.step(np.maximum(record.actions[t, episode], 0)[None].astype(np.int64)).alive[0]
        assert not there[record.lengths[episode] :, episode].any()


def test_numbers_are_recorded_as_they_were_taken(tmp_path):
    task = Number(EVERY, varied=True)
    _, record = Evaluator(settings(), task).evaluate(decided(task), 0, record=True)
    assert record.actions.shape == (4, N, 2, 2) and record.actions.dtype == np.float32
    over = np.arange(4)[:, None] >= record.lengths
    assert np.isnan(record.actions[over]).all() and not np.isnan(record.actions[~over][:, 0]).any()
    # The single one has one number only.
    assert np.isnan(record.actions[:, :, 1, 1]).all() and not np.isnan(record.actions[~over][:, 1, 0]).any()
    record.save(tmp_path / "behaviour.npz")
    np.testing.assert_array_equal(BehaviourRecord.load(tmp_path / "behaviour.npz").actions, record.actions)


@pytest.mark.parametrize(("actions", "kind"), [(127, np.int8), (128, np.int16)])
def test_choices_are_recorded_in_as_few_bytes_as_hold_them(actions, kind):
    task = Cue(EVERY)
    task.spec = replace(task.spec, actions=actions, action_names=tuple(map(str, range(actions))), groups=())
    assert _Recorder(task, N).actions.dtype == kind

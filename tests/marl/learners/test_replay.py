"""Replay: true successors, no reward of an old shaping in any batch, telescoping, and a ring that goes round."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import Collector, make_learner
from learning_signal.marl.learners.replay import Batch, Replay, team_rewards
from learning_signal.marl.settings import LearnerSettings, QLearningSettings
from learning_signal.marl.shaping import Anneal, Potential, ShapingConfig, ShapingError, Term, check
from learning_signal.marl.tasks import make_task
from tests.support.learner_helpers import collect
from tests.support.sanity_tasks import Crew, Cue

SETTINGS = LearnerSettings(
    algorithm="vdn",
    environments=8,
    rollout_steps=12,
    hidden=(8,),
    discount=0.9,
    q_learning=QLearningSettings(replay_env_steps=3 * 96 + 5),
)


class Counter(Cue):
    """Observation, state and feature tell the episode's seed (as a share) and its step; truncated at varied lengths."""

    def _observations(self) -> np.ndarray:
        share = (self._seeds >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
        seen = np.stack([share, self._elapsed.astype(np.float32), self._lengths.astype(np.float32)], axis=1)
        return np.repeat(seen[:, None], self.spec.agents, axis=1)

    def state(self) -> np.ndarray:
        return np.concatenate([self._observations()[:, 0], self._elapsed[:, None]], axis=1, dtype=np.float32)

    def features(self, names=None) -> dict[str, np.ndarray]:
        steps = self._elapsed.astype(np.float32)
        return {"right_share": steps, "right": np.stack([steps, -steps], axis=1) + self._observations()[:, :, 0]}

    def step(self, actions: np.ndarray):
        return super().step(actions)._replace(reward=9 + self._elapsed.astype(np.float32))


def filled(task, rollouts: int, seed: int = 0) -> Replay:
    learner = make_learner(task.spec, SETTINGS, 0)
    collector = Collector(task, SETTINGS, None, keep=learner.keeps)
    for update in range(rollouts):
        learner.replay.add(collect(learner, collector, update, seed))
    return learner.replay


def draw(replay: Replay, potential: Potential | None = None, env_steps: int = 0, count: int = 2000) -> Batch:
    return replay.draw(count, np.random.default_rng(3), potential, env_steps)


def potential_of(weight: float, name: str = "right_share", scope: str = "team", **changes) -> Potential:
    config = ShapingConfig(terms=(Term(potential=name, weight=weight, scope=scope),), beta=0.5, **changes)
    return check(config, Cue(1).spec)


@pytest.mark.parametrize("terminates", [False, True])
def test_successors_are_true_ones_also_where_an_episode_was_cut(terminates):
    replay = filled(Counter(8, varied=True, terminates=terminates), 5)
    batch = draw(replay)
    seed, step, length = batch.before.inputs[0][:, 0, :3].unbind(1)
    seed_after, step_after, _ = batch.after.inputs[0][:, 1, :3].unbind(1)
    last = step + 1 == length
    assert last.any() and (batch.terminated if terminates else batch.truncated).eq(last).all()
    true = torch.ones_like(last) if not terminates else ~last  # what follows a terminal does not matter
    assert torch.equal(seed[true], seed_after[true]) and torch.equal(step[true] + 1, step_after[true])
    assert torch.equal(batch.sparse_rewards, 10 + step), "the reward of the step from there"
    for moment, steps in ((batch.before, step), (batch.after, step_after)):
        assert torch.equal(moment.states[:, 3], steps)
        assert np.array_equal(moment.features["right_share"], steps.numpy())
        assert np.array_equal(moment.features["right"][:, 0], (steps + moment.states[:, 0]).numpy())
        assert torch.equal(moment.inputs[0][:, :, 3:], torch.eye(2).expand(len(steps), 2, 2)), "who is who"


def test_the_check_of_successors_notices_the_entry_after_a_reset():
    replay = filled(Counter(8, varied=True), 5)
    replay._cut_of.fill_(-1)
    batch = draw(replay)
    assert not torch.equal(batch.before.states[:, 0], batch.after.states[:, 0])


def test_the_oldest_rollout_is_overwritten():
    task = Counter(8, varied=True)
    replay = filled(task, 2)
    assert (replay.slots, len(replay)) == (3, 2 * 96)
    seeds = [set(filled(task, count)._states["states"][..., 0].flatten().tolist()) for count in (1, 4)]
    replay = filled(task, 4)
    assert len(replay) == 3 * 96 and replay.added == 4
    assert not (seeds[0] - {0.0}) & set(draw(replay).before.states[:, 0].tolist())
    assert set(draw(replay).before.states[:, 0].tolist()) <= seeds[1]
    owners = replay._cut_transitions // 96
    assert set(owners.tolist()) == {0, 1, 2} and len(set(replay._cut_transitions.tolist())) == len(owners)


def test_draws_are_uniform_and_follow_the_generator():
    replay = filled(Counter(8), 3)
    seen = draw(replay, count=30_000).before.states[:, 3]
    assert torch.bincount(seen.long(), minlength=4)[:4].div(30_000).tolist() == pytest.approx([0.25] * 4, abs=0.015)
    assert torch.equal(draw(replay).before.states, draw(replay).before.states)
    other = replay.draw(2000, np.random.default_rng(4), None, 0)
    assert not torch.equal(draw(replay).before.states, other.before.states)


# Rewards


def expected_rewards(batch: Batch, weight: float, beta: float) -> torch.Tensor:
    """By hand: the feature is the step of the episode."""
    now, after = batch.before.states[:, 3], batch.after.states[:, 3]
    return batch.sparse_rewards + beta * weight * (0.9 * after * ~batch.terminated - now)


def test_rewards_are_those_of_the_formula():
    for terminates in (False, True):
        replay = filled(Counter(8, varied=True, terminates=terminates), 3)
        batch = draw(replay, potential_of(2.0))
        torch.testing.assert_close(batch.rewards, expected_rewards(batch, 2.0, 0.5))
        assert torch.equal(draw(replay).rewards, batch.sparse_rewards)


def test_the_team_gets_the_mean_of_the_agents_shaping():
    batch = draw(filled(Counter(8), 2), potential_of(2.0, "right", "agent"))
    now, after = (moment.features["right"] for moment in (batch.before, batch.after))
    expected = batch.sparse_rewards.numpy() + 0.5 * 2 * (0.9 * after - now).mean(axis=1)
    np.testing.assert_allclose(batch.rewards.numpy(), expected, atol=1e-5)
    one = 0.5 * 2 * (0.9 * after - now)[:, 0]
    assert np.abs(batch.rewards.numpy() - batch.sparse_rewards.numpy() - one).max() > 0.1, "not one agent's"


class _StoresRewards(Replay):
    """The mistake: rewards are computed when a rollout is stored."""

    def __init__(self, *arguments, potential: Potential | None = None) -> None:
        super().__init__(*arguments)
        self.potential = potential

    def draw(self, count, generator, potential, env_steps):
        return super().draw(count, generator, self.potential, env_steps)


def first_batch_after_a_promotion(kind: type[Replay]) -> Batch:
    """Three rollouts under a shaping, a checkpoint, another shaping, one rollout: what is drawn then."""
    task, old, new = Counter(8, varied=True), potential_of(-3.0), potential_of(2.0)
    learner = make_learner(task.spec, SETTINGS, 0)
    before = learner.replay = kind(task.spec, SETTINGS)
    before.potential = old
    for update in range(3):
        before.add(collect(learner, Collector(task, SETTINGS, old, keep=learner.keeps), update))
    torch.testing.assert_close(draw(before, old).rewards, expected_rewards(draw(before, old), -3.0, 0.5))
    file = io.BytesIO()
    torch.save(before.state(), file)
    file.seek(0)
    after = kind(task.spec, SETTINGS)
    after.load(torch.load(file, weights_only=True))
    after.potential = before.potential
    after.add(collect(learner, Collector(task, SETTINGS, new, keep=learner.keeps), 3))
    return draw(after, new)


def test_a_promotion_leaves_no_reward_of_the_old_shaping_in_any_batch():
    batch = first_batch_after_a_promotion(Replay)
    torch.testing.assert_close(batch.rewards, expected_rewards(batch, 2.0, 0.5))


def test_a_replay_that_stores_rewards_fails_that_test():
    batch = first_batch_after_a_promotion(_StoresRewards)
    wrong = (batch.rewards - expected_rewards(batch, 2.0, 0.5)).abs() > 0.1
    assert wrong.float().mean() > 0.3


def test_a_replay_has_no_reward_but_the_tasks_own():
    names = set(filled(Counter(8), 1).state())
    assert {name for name in names if "reward" in name} == {"replay_sparse_rewards"}


@pytest.mark.parametrize("env_steps", [0, 500, 900])
def test_rewards_telescope_within_a_batch_while_the_shaping_anneals(env_steps):
    """Along any stored trajectory the discounted shaping sums to ``-beta Phi(s_0) + gamma^T beta Phi(s_T)``."""
    random = np.random.default_rng(0)
    features = {"right_share": random.random(11, dtype=np.float32), "right": random.random((11, 2), dtype=np.float32)}
    potential = potential_of(2.0, "right", "agent", anneal=Anneal(start=0, end=1000))
    beta = potential.config.beta_at(env_steps)
    assert beta == pytest.approx(0.5 * (1 - env_steps / 1000))
    now, after = ({name: values[part] for name, values in features.items()} for part in (slice(-1), slice(1, None)))
    never = np.zeros(10, bool)
    rewards = team_rewards(np.zeros(10, np.float32), now, after, never, potential, env_steps, 0.9)
    discounts = 0.9 ** np.arange(11)
    phi = 2 * features["right"].mean(axis=1)
    assert rewards @ discounts[:-1] == pytest.approx(beta * (discounts[-1] * phi[-1] - phi[0]), abs=1e-5)
    # Each transition with the strength of the time it was played: no longer.
    played = [potential.config.beta_at(100 * t) for t in range(10)]
    then = [
        team_rewards(
            np.zeros(1, np.float32),
            {name: values[t : t + 1] for name, values in now.items()},
            {name: values[t : t + 1] for name, values in after.items()},
            never[:1],
            potential,
            100 * t,
            0.9,
        )[0]
        for t in range(10)
    ]
    total = played[-1] * discounts[-1] * phi[-1] - played[0] * phi[0]
    assert abs(np.array(then) @ discounts[:-1] - total) > 0.01


def test_a_reward_that_is_not_finite_is_refused():
    replay = filled(Counter(8), 1)
    replay._states["feature_right_share"][0, 3] = float("nan")
    with pytest.raises(ShapingError, match="shaping reward of nan"):
        draw(replay, potential_of(1.0))


# Who is there, and checkpoints


def test_who_has_left():
    learner = make_learner(Crew(8, leaving=True).spec, SETTINGS, 0)
    collector = Collector(Crew(8, leaving=True), SETTINGS, None, keep=learner.keeps)
    learner.replay.add(collect(learner, collector))
    batch = draw(learner.replay)
    # The joint state ends with who of agents 1 and 2 is there.
    assert torch.equal(batch.before.states[:, -2:].bool(), batch.before.alive[:, 1:])
    inside = ~(batch.terminated | batch.truncated)
    assert torch.equal(batch.after.states[inside, -2:].bool(), batch.after.alive[inside, 1:])
    assert (batch.before.alive & ~batch.after.alive).any() and batch.before.alive[:, 0].all()


def test_a_checkpoint_holds_what_was_added_and_nothing_else():
    task = Counter(8, varied=True)
    for rollouts in (1, 4):
        replay, other = filled(task, rollouts), filled(task, 2, seed=1)
        stored = replay.state()
        assert len(stored["replay_states"]) == min(rollouts, 3)
        other.load(stored)
        assert len(other) == len(replay) and torch.equal(draw(other).after.states, draw(replay).after.states)
        replay._states["states"].zero_()
        assert stored["replay_states"].any(), "a checkpoint must be a copy"
        assert other._states["states"][: min(rollouts, 3)].any()


def test_a_checkpoint_of_another_task_changes_nothing():
    replay = filled(Counter(8), 1)
    expected = draw(replay).before.states
    with pytest.raises(ValueError, match="holds .* for 'replay_.* use the task"):
        replay.load(make_learner(Crew(8).spec, SETTINGS, 0).replay.state() | {"replay_added": 1})
    with pytest.raises(ValueError, match="holds nothing for"):
        replay.load({})
    assert torch.equal(draw(replay).before.states, expected)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of this process, on Linux")
def test_an_empty_replay_takes_no_memory():
    spec = make_task("spread", 1).spec
    settings = LearnerSettings(algorithm="vdn", q_learning=QLearningSettings(replay_env_steps=2_000_000))
    before = resident_megabytes()
    empty = Replay(spec, settings)
    assert resident_megabytes() - before < 100
    empty._states["states"].fill_(1.0)  # negative control: it is a part of what a full one takes
    assert resident_megabytes() - before > 100


def resident_megabytes() -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def test_a_full_replay_of_spread_is_small():
    """The size that ``QLearningSettings.replay_env_steps`` states."""
    task, settings = make_task("spread", 128), LearnerSettings(algorithm="vdn")
    learner = make_learner(task.spec, settings, 0)
    rollout = collect(learner, Collector(task, settings, None, keep=learner.keeps))
    for _ in range(17):
        learner.replay.add(rollout)
    assert len(learner.replay) == settings.q_learning.replay_env_steps
    file = io.BytesIO()
    torch.save(learner.state(), file)
    assert 15 < file.tell() / 2**20 < 19

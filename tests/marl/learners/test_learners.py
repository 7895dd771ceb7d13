"""The learners as a whole: rollouts against stepping by hand, and tiny tasks that only an intact learner solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import Diverged, Timings, make_learner, ppo
from learning_signal.marl.learners.distributions import Gaussian
from learning_signal.marl.learners.objectives import policy_gradient
from learning_signal.marl.learners.policy import episode_sums, sample
from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import Anneal, ShapingConfig, Term, check, shaping_rewards
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import Step
from tests.support.learner_helpers import SETTINGS, collect, collector, learn, solved, train
from tests.support.sanity_tasks import Cue, Number, make_sanity_task


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Rollouts


SHAPING = ShapingConfig(
    terms=(Term(potential="right_share", weight=2.0, scope="team"), Term(potential="right", weight=1.0, scope="agent")),
    beta=0.5,
    anneal=Anneal(start=100, end=900),
)


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
@pytest.mark.parametrize("terminates", [False, True])
def test_a_rollout_is_what_playing_the_episodes_one_by_one_gives(algorithm, terminates):
    settings = LearnerSettings(algorithm=algorithm, environments=6, hidden=(8,), rollout_steps=9)
    task = Cue(6, varied=True, terminates=terminates)
    learner = make_learner(task.spec, settings, 3)
    rollout = collector(task, settings, SHAPING).collect(
        learner.policy, sample, 200, 77, np.random.default_rng(0), Timings()
    )
    actions = rollout.actions.numpy()
    beta = SHAPING.beta_at(200 + 6 * np.arange(10))
    potential = check(SHAPING, task.spec)
    cuts = {
        (cut.step, int(e)): (cut.inputs[0][i].numpy(), cut.states[i].numpy())
        for cut in rollout.cuts
        for i, e in enumerate(cut.environments)
    }
    seen_cuts = 0
    single = Cue(6, varied=True, terminates=terminates)
    resets = 1
    observations = single.reset(episode_seeds(77, 0, 6))
    for t in range(9):
        assert np.array_equal(rollout.inputs[0][t, ..., :3].numpy(), observations)
        assert np.array_equal(rollout.inputs[0][t, ..., 3:].numpy(), np.broadcast_to(np.eye(2), (6, 2, 2)))
        assert np.array_equal(rollout.states[t].numpy(), single.state())
        phi = potential(single.features())
        step = single.step(actions[t])
        alive = ~step.terminated[:, None]
        shaping = 0.99 * beta[t + 1] * potential(single.features()) * alive - beta[t] * phi
        np.testing.assert_allclose(rollout.rewards[t].numpy(), step.reward[:, None] + shaping, atol=1e-6)
        assert np.array_equal(rollout.sparse_rewards[t], step.reward)
        observations, ended = step.observations, step.terminated | step.truncated
        if t < 8 and ended.any():
            for e in np.flatnonzero(step.truncated):
                seen, state = cuts[t, int(e)]
                assert np.array_equal(seen, np.hstack([observations[e], np.eye(2)]))
                assert np.array_equal(state, single.state()[e])
                seen_cuts += 1
            observations = single.reset(episode_seeds(77, resets * 6, 6), ended)
            resets += 1
    assert np.array_equal(rollout.inputs[0][9, ..., :3].numpy(), observations)
    assert np.array_equal(rollout.states[9].numpy(), single.state())
    assert seen_cuts == len(cuts) and (seen_cuts > 5) != terminates


def test_shaping_rewards_of_a_rollout_need_the_true_successor():
    """The negative control of the test above: the state after the reset, taken for the successor, pays otherwise."""
    settings = LearnerSettings(environments=6, hidden=(8,), rollout_steps=9)
    task = Cue(6, varied=True)
    one = collector(task, settings, SHAPING)
    policy = make_learner(task.spec, settings, 3).policy
    rollout = one.collect(policy, sample, 200, 77, np.random.default_rng(0), Timings())
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in rollout.features.items()}
    potentials = one.potential(flat).reshape(10, 6, 2)
    wrong = shaping_rewards(potentials[:-1], potentials[1:], *SHAPING.schedule(200, 9, 6), rollout.terminated, 0.99)
    right = rollout.rewards.numpy() - rollout.sparse_rewards[:, :, None]
    assert not np.allclose(wrong, right, atol=1e-3)


def test_buffers_are_not_kept_for_every_number_of_cut_episodes():
    settings = LearnerSettings(algorithm="ippo", environments=6, hidden=(8,), rollout_steps=9, minibatches=1)
    task = Cue(6, varied=True)
    learner = make_learner(task.spec, settings, 0)
    rollout = collect(learner, collector(task, settings))
    learn(learner, rollout)
    assert len({len(cut.environments) for cut in rollout.cuts}) > 1
    rows = {rows for _, rows in learner._workspaces}
    assert rows == {10 * 6 * 2, 9 * 6 * 2}, "those of a rollout and of a minibatch"


def test_episode_sums_and_missing_episodes():
    values = np.arange(12.0).reshape(6, 2)
    ended = np.zeros((6, 2), bool)
    assert len(episode_sums(values, ended)) == 0
    ended[[1, 4], 0] = ended[5, 1] = True
    assert episode_sums(values, ended).tolist() == [0 + 2, 4 + 6 + 8, 1 + 3 + 5 + 7 + 9 + 11]
    task = Cue(4)
    settings = LearnerSettings(environments=4, hidden=(8,), rollout_steps=3)  # shorter than an episode
    rollout = collect(make_learner(task.spec, settings, 0), collector(task, settings))
    assert rollout.episode_metrics() == {"sparse_return": None, "progress": None, "shaped_return": None}


def test_actions_of_a_rollout_are_kept_as_drawn_and_taken_within_bounds():
    """A density belongs to what was drawn; the task sees numbers in [-1, 1], and refuses others."""
    settings = LearnerSettings(environments=16, hidden=(8,), rollout_steps=9)
    task = Number(16, varied=True)
    learner = make_learner(task.spec, settings, 0)
    learner.actors[0].network.biases[-1][:2] = 0.9  # the means of the first agent
    rollout = collect(learner, collector(task, settings))
    assert rollout.actions.shape == (9, 16, 2, 2) and rollout.actions.dtype == torch.float32
    assert (rollout.actions[:, :, 0].abs() > 1).any()
    assert rollout.actions[:, :, 1, 1].eq(0).all(), "the second agent has one number"
    with pytest.raises(ValueError, match=r"not float32 in \[-1, 1\]"):
        task.reset(episode_seeds(0, 0, 16))
        task.step(rollout.actions.clamp(-1.1, 1.1)[0].numpy() * 2)


@pytest.mark.parametrize("name", ["cue-varied", "number-varied", "crew-leaving-varied"])
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_the_first_gradient_step_begins_at_the_policy_that_acted(name, memory):
    changes = {"memory": memory, "environments": 8, "rollout_steps": 9, "epochs": 1, "minibatches": 1}
    settings = SETTINGS.model_copy(update=changes)
    task = make_sanity_task(name, 8)
    learner = make_learner(task.spec, settings, 0)
    for actor in learner.actors:
        actor.network.parameters.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.3)
    rollout = collect(learner, collector(task, settings))
    weights = {name: tensor.clone() for name, tensor in learner.tensors().items()}
    metrics = learn(learner, rollout)
    assert abs(metrics["approximate_kl"]) < 1e-6 and metrics["clip_fraction"] == 0
    for name, tensor in learner.tensors().items():
        tensor.copy_(weights[name])
    for outputs in rollout.outputs:
        outputs[:, 0] += 0.5
    assert learn(learner, rollout)["approximate_kl"] > 1e-3


# Learning

TOLD = {
    "sparse_return",
    "progress",
    "shaped_return",
    "entropy",
    "approximate_kl",
    "clip_fraction",
    "policy_loss",
    "value_loss",
    "explained_variance",
    "gradient_norm",
}


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_solves_the_cue_task(algorithm):
    _, rows = train(Cue(32), SETTINGS.model_copy(update={"algorithm": algorithm}), 100, enough=3.6)
    assert rows[0]["sparse_return"] < 1.0
    assert solved(rows, 3.6)
    assert set(rows[0]) == TOLD and TOLD < set(METRICS)
    assert rows[-1]["entropy"] < rows[0]["entropy"]
    assert rows[-1]["explained_variance"] is None or rows[-1]["explained_variance"] <= 1


NUMBERS = SETTINGS.model_copy(update={"entropy": 0.01})


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_solves_the_number_task(algorithm):
    _, rows = train(Number(32), NUMBERS.model_copy(update={"algorithm": algorithm}), 60, enough=3.4)
    assert rows[0]["sparse_return"] < 1.2
    assert solved(rows, 3.4)
    assert rows[-1]["entropy"] < rows[0]["entropy"]


@pytest.mark.parametrize(("task", "settings", "most"), [(Cue, SETTINGS, 1.5), (Number, NUMBERS, 2.0)])
@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_a_broken_learner_solves_neither(task, settings, most, factor, monkeypatch):
    def broken(distribution, outputs, actions, old, advantages, *rest):
        return policy_gradient(distribution, outputs, actions, old, factor * advantages, *rest)

    monkeypatch.setattr(ppo, "policy_gradient", broken)
    _, rows = train(task(32), settings, 50)  # an intact one needs 13 to 23 updates
    assert rows[-1]["sparse_return"] < most


def test_numbers_need_means_that_follow_what_is_seen(monkeypatch):
    """The other negative control: deviations that learn and means that do not."""
    intact = Gaussian._parameters

    def blind(self, outputs):
        means, *others = intact(self, outputs)
        return torch.zeros_like(means), *others

    monkeypatch.setattr(Gaussian, "_parameters", blind)
    _, rows = train(Number(32), NUMBERS, 50)
    assert rows[-1]["sparse_return"] < 2.0


def test_agents_need_their_identity(monkeypatch):
    monkeypatch.setattr(torch, "eye", lambda size: torch.zeros(size, size))
    _, rows = train(Cue(32), SETTINGS, 50)
    assert rows[-1]["sparse_return"] < 2.0


class _Unpaid(Cue):
    def step(self, actions: np.ndarray) -> Step:
        return super().step(actions)._replace(reward=np.zeros(self.environments, np.float32))


def test_a_task_that_pays_nothing_does_not_stop_exploration(monkeypatch):
    settings = SETTINGS.model_copy(update={"entropy": 0.01})
    _, rows = train(_Unpaid(32), settings, 60)
    assert rows[-1]["entropy"] > 0.97 * np.log(3)
    monkeypatch.setattr(ppo, "SMALLEST_SCALE", 1e-8)
    _, rows = train(_Unpaid(32), settings, 60)
    assert rows[-1]["entropy"] < 0.95 * np.log(3), "the policy must follow the noise here for the test to mean anything"


def test_same_seed_same_weights():
    first, _ = train(Cue(32), SETTINGS, 3, seed=5)
    again, _ = train(Cue(32), SETTINGS, 3, seed=5)
    other, _ = train(Cue(32), SETTINGS, 3, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.tensors().values(), again.tensors().values(), strict=True))
    assert not torch.equal(first.tensors()["actor"], other.tensors()["actor"])


def test_minibatches_need_not_be_equal():
    _, rows = train(Cue(32), SETTINGS.model_copy(update={"minibatches": 3}), 2)
    assert rows[-1]["value_loss"] > 0


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_an_update_ends_where_the_policy_is_too_far_from_the_one_that_acted(memory):
    def updated(largest_kl: float | None):
        return train(Cue(32), SETTINGS.model_copy(update={"largest_kl": largest_kl, "memory": memory}), 1)[0]

    whole, never, soon = updated(None), updated(1e9), updated(1e-9)
    assert whole.actors[0].optimiser.steps == SETTINGS.epochs * SETTINGS.minibatches
    assert torch.equal(whole.tensors()["actor"], never.tensors()["actor"])
    # The first step begins at the policy that acted; the second already does not.
    assert [part.optimiser.steps for part in soon.parts] == [2, 2]


@pytest.mark.parametrize(("memory", "samples"), [("none", 16), ("gru", 4)])
def test_a_minibatch_needs_a_sample(memory, samples):
    """A sample is a joint state (4 environments, 4 steps) or, with memory, an environment's sequence."""
    changes = {"environments": 4, "memory": memory}
    make_learner(Cue(1).spec, SETTINGS.model_copy(update=changes | {"minibatches": samples}), 0)
    words = f"{samples + 1} minibatches of {samples} .*; use at most {samples} minibatches or more environments"
    with pytest.raises(ValueError, match=words):
        make_learner(Cue(1).spec, SETTINGS.model_copy(update=changes | {"minibatches": samples + 1}), 0)


@pytest.mark.parametrize("part", ["actor", "critic", "actor_second_moment"])
def test_divergence_is_noticed(part):
    learner, _ = train(Cue(32), SETTINGS, 1)
    rollout = collect(learner, collector(Cue(32), SETTINGS))
    learner.tensors()[part][0] = torch.nan
    with pytest.raises(Diverged, match="(value loss|policy loss|weights) became NaN"):
        learn(learner, rollout)


def test_another_network_is_refused():
    stored = make_learner(Cue(1).spec, SETTINGS, 0).state()
    learner = make_learner(make_task("spread", 1).spec, SETTINGS, 0)
    before = learner.state()
    with pytest.raises(ValueError, match=r"holds .* for 'actor' where this learner has"):
        learner.load(stored)
    after = learner.state()
    assert all(torch.equal(before[name], after[name]) for name in learner.tensors()), "nothing was changed"
    recurrent = make_learner(Cue(1).spec, SETTINGS.model_copy(update={"memory": "gru"}), 0)
    with pytest.raises(ValueError, match=r"holds .* for 'actor' where this learner has"):
        recurrent.load(stored)


# On a GPU

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@on_cuda
@pytest.mark.parametrize("memory", ["none", "gru"])
def test_learns_on_cuda(memory):
    settings = SETTINGS.model_copy(update={"device": "cuda", "memory": memory})
    _, rows = train(Cue(32), settings, 100)
    assert rows[-1]["sparse_return"] > 3.6


@on_cuda
@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("task", ["cue-varied", "number", "crew-leaving-varied"])
def test_a_segment_on_cuda_equals_one_on_the_cpu_up_to_rounding(algorithm, memory, task, tmp_path):
    """Rounding may tip a drawn action only where a uniform number falls within it: the seed avoids that."""

    def trained(device: str) -> tuple[dict, dict]:
        changes = {"algorithm": algorithm, "memory": memory, "device": device, "environments": 8, "hidden": (16, 16)}
        run = RunSettings(
            task=task,
            learner=LearnerSettings(epochs=2, minibatches=2, **changes),
            evaluation=EvaluationSettings(episodes=4, points=2),
        )
        spec = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=2 * 32, seed=3)
        store = SegmentStore(tmp_path)
        result = run_segment(spec, store, make_task=make_sanity_task)
        return torch.load(store.checkpoint_path(result.id), weights_only=True)["learner"], result.updates[-1]

    (cpu, cpu_metrics), (cuda, cuda_metrics) = trained("cpu"), trained("cuda")
    assert cpu.keys() == cuda.keys()
    for name, value in cpu.items():
        if isinstance(value, torch.Tensor):
            assert cuda[name].device.type == "cpu", "a checkpoint is read anywhere"
            torch.testing.assert_close(cuda[name], value, rtol=1e-3, atol=1e-4)
    assert cuda_metrics == pytest.approx(cpu_metrics, rel=1e-2, abs=1e-4)

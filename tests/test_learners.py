"""The learners: closed forms with negative controls, and a tiny task that only an intact learner solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marl.learners import Collector, Diverged, Learner, Timings, ppo
from marl.learners.networks import Adam, Network
from marl.learners.normaliser import ValueNormaliser
from marl.learners.policy import episode_sums, greedy, sample
from marl.learners.ppo import generalised_advantages, policy_gradient, value_gradient
from marl.metrics import METRICS
from marl.randomness import derive, episode_seeds
from marl.settings import LearnerSettings
from marl.shaping import Anneal, ShapingConfig, Term, check, shaping_rewards
from marl.tasks import make_task
from marl.tasks.base import Step
from tests.sanity_tasks import Cue

DOUBLE = torch.float64
SETTINGS = LearnerSettings(environments=32, hidden=(32, 32), learning_rate=6e-3, entropy=0.1, minibatches=2)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Network and optimiser


def plain_network(network: Network, activation: torch.nn.Module) -> torch.nn.Sequential:
    """The same weights in ordinary torch modules."""
    layers = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        matrix = weight if weight is network.weights[-1] else weight.t()
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], dtype=DOUBLE)
        with torch.no_grad():
            linear.weight.copy_(matrix)
            linear.bias.copy_(bias)
        layers += [linear, activation]
    return torch.nn.Sequential(*layers[:-1])


def test_network_equals_autograd():
    network = Network(7, (16, 12), 5, output_gain=1.0, generator=generator(), dtype=DOUBLE)
    for bias in network.biases:
        bias.normal_(generator=generator(1))
    inputs = torch.randn(11, 7, dtype=DOUBLE, generator=generator(2))
    output_gradient = torch.randn(5, 11, dtype=DOUBLE, generator=generator(3))
    workspace = network.workspace(11, gradients=True)
    outputs = network.forward(inputs, workspace)
    network.backward(inputs, workspace, output_gradient)

    plain = plain_network(network, torch.nn.Tanh())
    expected = plain(inputs).t()
    expected.backward(output_gradient)
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-12, atol=1e-12)
    linears = [layer for layer in plain if isinstance(layer, torch.nn.Linear)]
    for layer, linear in enumerate(linears):
        gradient = linear.weight.grad if layer == 2 else linear.weight.grad.t()
        torch.testing.assert_close(network.weight_gradients[layer], gradient, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(network.bias_gradients[layer], linear.bias.grad, rtol=1e-11, atol=1e-12)

    other = plain_network(network, torch.nn.Softsign())(inputs).t()
    assert not torch.allclose(outputs, other, atol=1e-3), "the comparison must tell activations apart"


def test_initial_hidden_weights_are_orthogonal():
    network = Network(8, (8,), 3, output_gain=0.01, generator=generator())
    gram = network.weights[0].t() @ network.weights[0]
    torch.testing.assert_close(gram, (5 / 3) ** 2 * torch.eye(8), atol=1e-5, rtol=0)
    assert network.weights[-1].norm(dim=1) == pytest.approx([0.01] * 3)


def test_adam_equals_torch():
    network = Network(3, (4,), 2, output_gain=1.0, generator=generator(), dtype=DOUBLE)
    reference = torch.nn.Parameter(network.parameters.clone())
    peer = torch.optim.Adam([reference], lr=0.01, eps=1e-4)
    optimiser = Adam(network, 0.01)
    for step in range(5):
        gradient = torch.randn(len(reference), dtype=DOUBLE, generator=generator(step))
        network.gradient.copy_(gradient)
        optimiser.step(0.5)
        reference.grad = gradient * 0.5
        peer.step()
    torch.testing.assert_close(network.parameters, reference.detach(), rtol=1e-12, atol=1e-12)


def test_sampling_follows_the_policy():
    logits = torch.tensor([0.0, 1.0, -1.0])[:, None].expand(3, 30_000)
    actions = sample(logits, torch.rand(30_000, generator=generator()))
    frequencies = torch.bincount(actions, minlength=3) / 30_000
    torch.testing.assert_close(frequencies, torch.softmax(logits[:, 0], 0), atol=0.01, rtol=0)
    assert greedy(logits).eq(1).all()
    assert sample(logits, torch.full((30_000,), 1 - 2**-24)).max() == 2


# Advantages


def constant_episode(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reward 1 for ever, valued correctly: 1 / (1 - gamma) everywhere; the last step ends the episode."""
    rewards = torch.ones(length, 1, 2, dtype=DOUBLE)
    values = torch.full_like(rewards, 1 / (1 - 0.9))
    ended = torch.zeros(length, 1, dtype=torch.bool)
    ended[-1] = True
    return rewards, values, ended


def test_a_truncated_episode_bootstraps():
    rewards, values, ended = constant_episode(5)
    truncated = generalised_advantages(rewards, values, values, torch.zeros_like(ended), ended, 0.9, 0.95)
    torch.testing.assert_close(truncated, torch.zeros_like(truncated), atol=1e-12, rtol=0)
    taken_for_terminal = generalised_advantages(rewards, values, values, ended, ended, 0.9, 0.95)
    # Without the bootstrap the last step looks like a loss of 9.
    torch.testing.assert_close(taken_for_terminal[-1], torch.full((1, 2), 1.0 - 10.0, dtype=DOUBLE))


def test_a_terminated_episode_does_not_bootstrap():
    rewards, _, ended = constant_episode(5)
    zeros, garbage = torch.zeros_like(rewards), torch.full_like(rewards, 100.0)
    garbage[:-1] = 0
    advantages = generalised_advantages(rewards, zeros, garbage, ended, ended, 0.9, 1.0)
    expected = sum(0.9**t for t in range(5))
    assert advantages[0].tolist()[0] == pytest.approx([expected] * 2)
    wrong = generalised_advantages(rewards, zeros, garbage, torch.zeros_like(ended), ended, 0.9, 1.0)
    assert wrong[0, 0, 0] > expected + 10


def test_advantages_do_not_cross_an_episode_end():
    rewards, values, ended = constant_episode(6)
    ended[2] = True
    rewards[3:] = 50.0
    advantages = generalised_advantages(rewards, values, values, torch.zeros_like(ended), ended, 0.9, 0.95)
    torch.testing.assert_close(advantages[:3], torch.zeros(3, 1, 2, dtype=DOUBLE), atol=1e-12, rtol=0)
    ended[2] = False
    leaked = generalised_advantages(rewards, values, values, torch.zeros_like(ended), ended, 0.9, 0.95)
    assert leaked[0].abs().min() > 1


# Value normalisation


def test_value_normaliser_is_unbiased_from_the_first_batch():
    returns = torch.tensor([3.0, 5.0, 7.0, 9.0])
    normaliser = ValueNormaliser(decay=0.99)
    assert (normaliser.mean, normaliser.deviation) == (0.0, 1.0)
    normaliser.update(returns)
    assert normaliser.mean == pytest.approx(6.0)
    assert normaliser.deviation == pytest.approx(5.0**0.5)
    torch.testing.assert_close(normaliser.denormalise(normaliser.normalise(returns)), returns)
    normaliser.statistics[2] = 1.0  # what leaving out the correction amounts to
    assert normaliser.mean == pytest.approx(0.06)


def test_value_normaliser_weighs_batches_by_age():
    normaliser = ValueNormaliser(decay=0.5)
    for value in (1.0, 4.0):
        normaliser.update(torch.full((3,), value))
    assert normaliser.mean == pytest.approx((0.25 * 1 + 0.5 * 4) / 0.75)
    with pytest.raises(ValueError, match=r"decay .* is 1; give"):
        ValueNormaliser(1)


# Losses


def ppo_inputs(rows: int = 40) -> tuple[torch.Tensor, ...]:
    draw = generator(5)
    logits = torch.randn(5, rows, dtype=DOUBLE, generator=draw)
    actions = torch.randint(0, 5, (rows,), generator=draw)
    current = torch.log_softmax(logits, 0).gather(0, actions[None])[0]
    old = current + 0.4 * torch.randn(rows, dtype=DOUBLE, generator=draw)
    return logits, actions, old, torch.randn(rows, dtype=DOUBLE, generator=draw)


def plain_policy_loss(logits, actions, old, advantages, clip, entropy_weight):
    distribution = torch.distributions.Categorical(logits=logits.t())
    ratio = (distribution.log_prob(actions) - old).exp()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    return -objective.mean(), distribution.entropy().mean(), entropy_weight


def test_policy_gradient_equals_autograd():
    logits, actions, old, advantages = ppo_inputs()
    gradient, statistics = policy_gradient(logits, actions, old, advantages, 0.2, 0.05)
    leaf = logits.clone().requires_grad_()
    policy_loss, entropy, _ = plain_policy_loss(leaf, actions, old, advantages, 0.2, 0.05)
    (expected,) = torch.autograd.grad(policy_loss - 0.05 * entropy, leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    assert statistics[0] == pytest.approx(float(policy_loss.detach()))
    assert statistics[1] == pytest.approx(float(entropy.detach()))
    assert statistics[2] > 0 and 0 < statistics[3] < 1

    policy_loss, entropy, _ = plain_policy_loss(leaf, actions, old, advantages, 1e9, 0.05)
    (unclipped,) = torch.autograd.grad(policy_loss - 0.05 * entropy, leaf)
    assert not torch.allclose(gradient, unclipped), "some rows must be clipped for this test to mean anything"


def test_clipping_stops_a_ratio_that_went_far_enough():
    logits = torch.zeros(2, 1, dtype=DOUBLE)
    actions, advantage = torch.tensor([0]), torch.ones(1, dtype=DOUBLE)
    far = torch.log_softmax(logits, 0)[0] - 1.0  # ratio e: beyond 1.2
    assert policy_gradient(logits, actions, far, advantage, 0.2, 0.0)[0].abs().max() == 0
    assert policy_gradient(logits, actions, far, -advantage, 0.2, 0.0)[0].abs().max() > 0, "the way back stays open"


def test_value_gradient_equals_autograd():
    draw = generator(6)
    values, old, targets = (torch.randn(3, 50, dtype=DOUBLE, generator=draw) for _ in range(3))
    gradient, loss = value_gradient(values, old, targets, 0.2)
    leaf = values.clone().requires_grad_()
    clipped = old + (leaf - old).clamp(-0.2, 0.2)
    expected_loss = torch.maximum((leaf - targets) ** 2, (clipped - targets) ** 2).mean() / 2
    (expected,) = torch.autograd.grad(expected_loss, leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(float(expected_loss.detach()))
    assert not torch.allclose(gradient, (values - targets) / values.numel()), "some values must be clipped"


# Rollouts


def collector(task, settings: LearnerSettings, shaping: ShapingConfig) -> Collector:
    return Collector(task, settings, shaping, None if shaping.is_none else check(shaping, task.spec))


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
    learner = Learner(task.spec, settings, 3)
    rollout = collector(task, settings, SHAPING).collect(
        learner.actor, 200, 77, np.random.default_rng(0), Timings()
    )
    actions = rollout.actions.numpy().reshape(9, 6, 2)
    beta = SHAPING.beta_at(200 + 6 * np.arange(10))
    potential = check(SHAPING, task.spec)
    cuts = {(cut.step, int(e)): cut.critic_inputs[i] for cut in rollout.cuts for i, e in enumerate(cut.environments)}
    seen_cuts = 0
    single = Cue(6, varied=True, terminates=terminates)
    resets = 1
    observations = single.reset(episode_seeds(77, 0, 6))
    for t in range(9):
        assert np.array_equal(rollout.inputs[t, ..., :3].numpy(), observations)
        phi = potential(single.features())
        step = single.step(actions[t])
        alive = ~step.terminated[:, None]
        shaping = 0.99 * beta[t + 1] * potential(single.features()) * alive - beta[t] * phi
        np.testing.assert_allclose(rollout.rewards[t].numpy(), step.reward[:, None] + shaping, atol=1e-6)
        assert np.array_equal(rollout.sparse_rewards[t], step.reward)
        observations, ended = step.observations, step.terminated | step.truncated
        if t < 8 and ended.any():
            for e in np.flatnonzero(step.truncated):
                seen = cuts[t, int(e)].numpy()
                true = single.state()[e] if algorithm == "mappo" else np.hstack([observations[e], np.eye(2)])
                assert np.array_equal(seen, true)
                seen_cuts += 1
            observations = single.reset(episode_seeds(77, resets * 6, 6), ended)
            resets += 1
    assert np.array_equal(rollout.inputs[9, ..., :3].numpy(), observations)
    assert seen_cuts == len(cuts) and (seen_cuts > 5) != terminates


def test_shaping_rewards_of_a_rollout_need_the_true_successor():
    """The negative control of the test above: the state after the reset, taken for the successor, pays otherwise."""
    settings = LearnerSettings(environments=6, hidden=(8,), rollout_steps=9)
    task = Cue(6, varied=True)
    one = collector(task, settings, SHAPING)
    rollout = one.collect(Learner(task.spec, settings, 3).actor, 200, 77, np.random.default_rng(0), Timings())
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in one._features.items()}
    potentials = one.potential(flat).reshape(10, 6, 2)
    wrong = shaping_rewards(potentials[:-1], potentials[1:], *SHAPING.schedule(200, 9, 6), rollout.terminated, 0.99)
    right = rollout.rewards.numpy() - rollout.sparse_rewards[:, :, None]
    assert not np.allclose(wrong, right, atol=1e-3)


def test_episode_sums_and_missing_episodes():
    values = np.arange(12.0).reshape(6, 2)
    ended = np.zeros((6, 2), bool)
    assert len(episode_sums(values, ended)) == 0
    ended[[1, 4], 0] = ended[5, 1] = True
    assert episode_sums(values, ended).tolist() == [0 + 2, 4 + 6 + 8, 1 + 3 + 5 + 7 + 9 + 11]
    task = Cue(4)
    settings = LearnerSettings(environments=4, hidden=(8,), rollout_steps=3)  # shorter than an episode
    rollout = collector(task, settings, ShapingConfig.none()).collect(
        Learner(task.spec, settings, 0).actor, 0, 0, np.random.default_rng(0), Timings()
    )
    assert rollout.episode_metrics() == {"sparse_return": None, "progress": None, "shaped_return": None}


# Learning


def train(task, settings: LearnerSettings, updates: int, seed: int = 0, shaping: ShapingConfig | None = None):
    """A learner after some updates, and its rows of metrics."""
    learner = Learner(task.spec, settings, seed)
    one = collector(task, settings, shaping or ShapingConfig.none())
    rows = []
    for update in range(updates):
        draws = np.random.default_rng(derive(seed, update))
        rollout = one.collect(learner.actor, update * one.size, derive(seed, "train", update), draws, Timings())
        rows.append(rollout.episode_metrics() | learner.update(rollout, draws))
    return learner, rows


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_solves_the_cue_task(algorithm):
    _, rows = train(Cue(32), SETTINGS.model_copy(update={"algorithm": algorithm}), 100)
    assert rows[0]["sparse_return"] < 1.0
    assert rows[-1]["sparse_return"] > 3.6
    assert set(rows[0]) | {"env_steps", "beta"} == set(METRICS)
    assert rows[-1]["entropy"] < rows[0]["entropy"]
    assert rows[-1]["explained_variance"] is None or rows[-1]["explained_variance"] <= 1


@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_a_broken_learner_does_not_solve_the_cue_task(factor, monkeypatch):
    def broken(logits, actions, old, advantages, *rest):
        return policy_gradient(logits, actions, old, factor * advantages, *rest)

    monkeypatch.setattr(ppo, "policy_gradient", broken)
    _, rows = train(Cue(32), SETTINGS, 100)
    assert rows[-1]["sparse_return"] < 1.5


def test_agents_need_their_identity(monkeypatch):
    monkeypatch.setattr(torch, "eye", lambda size: torch.zeros(size, size))
    _, rows = train(Cue(32), SETTINGS, 100)
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


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_the_critic_has_a_value_for_every_agent(algorithm):
    settings = SETTINGS.model_copy(update={"algorithm": algorithm, "discount": 0.5})
    task = Cue(32)
    learner = Learner(task.spec, settings, 0)
    one = collector(task, settings, ShapingConfig.none())
    for update in range(60):
        draws = np.random.default_rng(update)
        rollout = one.collect(learner.actor, 0, update, draws, Timings())
        rollout.rewards = torch.tensor([1.0, -2.0]).expand(4, 32, 2).contiguous()
        learner.update(rollout, draws)
    values = learner.normaliser.denormalise(learner._predict(rollout.critic_inputs)).view(-1, 2).mean(0)
    # Reward r for ever at gamma 0.5 is worth 2 r, episodes being truncated, not terminated.
    assert values.tolist() == pytest.approx([2.0, -4.0], abs=0.2)


def test_same_seed_same_weights():
    first, _ = train(Cue(32), SETTINGS, 3, seed=5)
    again, _ = train(Cue(32), SETTINGS, 3, seed=5)
    other, _ = train(Cue(32), SETTINGS, 3, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.tensors().values(), again.tensors().values(), strict=True))
    assert not torch.equal(first.actor.parameters, other.actor.parameters)


def test_minibatches_need_not_be_equal():
    _, rows = train(Cue(32), SETTINGS.model_copy(update={"minibatches": 3}), 2)
    assert rows[-1]["value_loss"] > 0


def test_divergence_is_noticed():
    learner, _ = train(Cue(32), SETTINGS, 1)
    learner.critic.parameters[0] = torch.nan
    task, draws = Cue(32), np.random.default_rng(0)
    rollout = collector(task, SETTINGS, ShapingConfig.none()).collect(learner.actor, 0, 0, draws, Timings())
    with pytest.raises(Diverged, match="value loss became NaN|policy loss became NaN"):
        learner.update(rollout, draws)


def test_another_network_is_refused():
    stored = Learner(Cue(1).spec, SETTINGS, 0).state()
    with pytest.raises(ValueError, match=r"holds .* for 'actor' where this learner has"):
        Learner(make_task("spread", 1).spec, SETTINGS, 0).load(stored)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_learns_on_cuda():
    _, rows = train(Cue(32), SETTINGS.model_copy(update={"device": "cuda"}), 100)
    assert rows[-1]["sparse_return"] > 3.6

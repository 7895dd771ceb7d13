"""The parts of MAPPO and IPPO: networks, advantages, normalisation and losses, each a closed form with its control."""

from __future__ import annotations

import pytest
import torch

from learning_signal.marl.learners.distributions import Categorical, Gaussian
from learning_signal.marl.learners.networks import Adam, Network
from learning_signal.marl.learners.normaliser import ValueNormaliser
from learning_signal.marl.learners.objectives import generalised_advantages, policy_gradient, value_gradient
from tests.support.learner_helpers import DOUBLE, generator, torch_distribution

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


def ppo_inputs(kind: str, rows: int = 40) -> tuple:
    """A distribution, its outputs, actions, old log-probabilities and advantages."""
    draw = generator(5)
    if kind == "categorical":
        distribution, outputs = Categorical(), torch.randn(5, rows, dtype=DOUBLE, generator=draw)
        actions = torch.randint(0, 5, (rows,), generator=draw)
    else:
        distribution, outputs = Gaussian(2), torch.randn(4, rows, dtype=DOUBLE, generator=draw)
        actions = torch.randn(rows, 2, dtype=DOUBLE, generator=draw)
    current = torch_distribution(kind, outputs).log_prob(actions)
    old = current + 0.4 * torch.randn(rows, dtype=DOUBLE, generator=draw)
    return distribution, outputs, actions, old, torch.randn(rows, dtype=DOUBLE, generator=draw)


def plain_policy_loss(kind, outputs, actions, old, advantages, clip, weights) -> tuple[torch.Tensor, ...]:
    """Policy loss, entropy, approximate KL and clip fraction, straight from their definitions."""
    distribution = torch_distribution(kind, outputs)
    log_ratio = distribution.log_prob(actions) - old
    ratio = log_ratio.exp()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    outside = ((ratio - 1).abs() > clip).to(DOUBLE)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (weights * values).sum() / weights.sum()

    return -mean(objective), mean(distribution.entropy()), mean(ratio - 1 - log_ratio), mean(outside)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("weighted", [False, True])
def test_policy_gradient_equals_autograd(kind, weighted):
    distribution, outputs, actions, old, advantages = ppo_inputs(kind)
    weights = (torch.arange(40) % 3 > 0).to(DOUBLE) if weighted else None
    counted = torch.ones(40, dtype=DOUBLE) if weights is None else weights
    gradient, statistics = policy_gradient(distribution, outputs, actions, old, advantages, 0.2, 0.05, weights)

    leaf = outputs.clone().requires_grad_()

    def expected(clip: float, counted: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
        policy_loss, entropy, *others = plain_policy_loss(kind, leaf, actions, old, advantages, clip, counted)
        (result,) = torch.autograd.grad(policy_loss - 0.05 * entropy, leaf, retain_graph=True)
        return result, [float(value.detach()) for value in (policy_loss, entropy, *others)]

    right, right_statistics = expected(0.2, counted)
    torch.testing.assert_close(gradient, right, rtol=1e-10, atol=1e-12)
    assert statistics.tolist() == pytest.approx(right_statistics)
    assert statistics[2] > 0 and 0 < statistics[3] < 1

    unclipped, _ = expected(1e9, counted)
    assert not torch.allclose(gradient, unclipped), "some rows must be clipped for this test to mean anything"
    if weighted:
        assert gradient[:, weights == 0].abs().max() == 0
        unweighted, other_statistics = expected(0.2, torch.ones(40, dtype=DOUBLE))
        assert not torch.allclose(gradient, unweighted)
        assert all(abs(a - b) > 1e-3 for a, b in zip(right_statistics, other_statistics, strict=True))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_weights_of_one_change_nothing_and_of_zero_leave_nothing(kind):
    distribution, *rest = ppo_inputs(kind)
    without, _ = policy_gradient(distribution, *rest, 0.2, 0.05)
    ones, _ = policy_gradient(distribution, *rest, 0.2, 0.05, torch.ones(40, dtype=DOUBLE))
    torch.testing.assert_close(without, ones, rtol=1e-12, atol=1e-14)
    zeros, statistics = policy_gradient(distribution, *rest, 0.2, 0.05, torch.zeros(40, dtype=DOUBLE))
    assert zeros.abs().max() == 0 and statistics.abs().max() == 0


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_a_row_without_weight_cannot_overflow(kind):
    """The policy of an agent that is gone may go anywhere: no loss holds it."""
    distribution, outputs, actions, old, advantages = ppo_inputs(kind)
    weights = torch.ones(40, dtype=DOUBLE)
    weights[3] = 0
    right, statistics = policy_gradient(distribution, outputs, actions, old, advantages, 0.2, 0.05, weights)
    far = old.clone()
    far[3] -= 1000  # ratio e^1000
    gradient, others = policy_gradient(distribution, outputs, actions, far, advantages, 0.2, 0.05, weights)
    assert torch.equal(gradient, right) and torch.equal(others, statistics)
    weights[3] = 1
    _, counted = policy_gradient(distribution, outputs, actions, far, advantages, 0.2, 0.05, weights)
    assert not counted.isfinite().all()


def test_clipping_stops_a_ratio_that_went_far_enough():
    logits = torch.zeros(2, 1, dtype=DOUBLE)
    actions, advantage = torch.tensor([0]), torch.ones(1, dtype=DOUBLE)
    far = torch.log_softmax(logits, 0)[0] - 1.0  # ratio e: beyond 1.2
    assert policy_gradient(Categorical(), logits, actions, far, advantage, 0.2, 0.0)[0].abs().max() == 0
    back = policy_gradient(Categorical(), logits, actions, far, -advantage, 0.2, 0.0)[0]
    assert back.abs().max() > 0, "the way back stays open"


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


def test_value_gradient_loses_nothing_to_rounding_within_the_range():
    """In float32, ``old + (value - old) - target`` is often not ``value - target``; the value is in the range still."""
    value, old, target = (torch.tensor([number]) for number in (0.013084500, -0.014242906, -0.003684960))
    assert float(value_gradient(value, old, target, 0.2)[0]) == pytest.approx(0.016769, abs=1e-6)
    draw = generator(8)
    values, old, targets = 0.02 * torch.randn(3, 20_000, generator=draw)
    gradient, _ = value_gradient(values, old, targets, 0.2)
    within = (values - old).abs() <= 0.2
    assert within.all() and (gradient[values != targets] != 0).all()
    leaf = values.clone().requires_grad_()
    clipped = old + (leaf - old).clamp(-0.2, 0.2)
    loss = torch.maximum((leaf - targets) ** 2, (clipped - targets) ** 2).mean() / 2
    (expected,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-9)
    rounded = ((values - old).clamp(-0.2, 0.2) + old - targets).square()
    assert (rounded > (values - targets).square()).any(), "negative control: rounding does make some squares differ"

"""Distributions over actions against torch's own: probabilities, entropies, gradients, and what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from learning_signal.marl.learners.distributions import LOG_DEVIATION, Categorical, Gaussian, distribution_of
from tests.support.learner_helpers import DOUBLE, generator, torch_distribution
from tests.support.sanity_tasks import Crew, Number

START = LOG_DEVIATION[1]


def outputs(kind: str, rows: int = 40) -> torch.Tensor:
    """Outputs ``[outputs, rows]``: 5 logits, or 3 means and 3 log deviations inside their bounds."""
    return torch.randn(5 if kind == "categorical" else 6, rows, dtype=DOUBLE, generator=generator(1)) * 0.7


def ours(kind: str):
    return Categorical() if kind == "categorical" else Gaussian(3)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_was_taken_equals_torch(kind, weighted):
    raw = outputs(kind)
    torch.manual_seed(0)
    actions = torch_distribution(kind, raw).sample()
    pull = torch.randn(raw.shape[1], dtype=DOUBLE, generator=generator(2))
    push = torch.rand(raw.shape[1], dtype=DOUBLE, generator=generator(3)) if weighted else 0.3

    leaf = raw.clone().requires_grad_()
    expected = torch_distribution(kind, leaf)
    taken = ours(kind).taken(raw, actions)
    torch.testing.assert_close(taken.log_probability, expected.log_prob(actions).detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(taken.entropy, expected.entropy().detach(), rtol=1e-11, atol=1e-12)
    objective = (pull * expected.log_prob(actions)).sum() + (push * expected.entropy()).sum()
    (gradient,) = torch.autograd.grad(objective, leaf)
    found = taken.gradient(pull, push)
    torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-12)

    without_entropy = ours(kind).taken(raw, actions).gradient(pull, 0.0)
    assert not torch.allclose(found, without_entropy, atol=1e-3), "the entropy must matter"
    others = ours(kind).taken(raw, actions.roll(1, 0))
    assert not torch.allclose(taken.log_probability, others.log_probability, atol=1e-3), "so must the actions"


def test_a_deviation_stays_within_its_bounds_and_does_not_pull_there():
    low, start, high = LOG_DEVIATION
    raw = torch.tensor([[0.1] * 4, [low - start - 1, 0.0, 0.5, high - start + 1]], dtype=DOUBLE)
    actions = torch.full((4, 1), 0.4, dtype=DOUBLE)
    taken = Gaussian(1).taken(raw, actions)
    constant = 0.5 * math.log(2 * math.pi * math.e)
    expected_entropies = [constant + low, constant + start, constant + start + 0.5, constant + high]
    assert taken.entropy.tolist() == pytest.approx(expected_entropies)
    leaf = raw.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch_distribution("gaussian", leaf).log_prob(actions).sum(), leaf)
    gradient = taken.gradient(torch.ones(4, dtype=DOUBLE), 0.0)
    torch.testing.assert_close(gradient, expected)
    assert gradient[1, [0, 3]].abs().max() == 0 and gradient[1, [1, 2]].abs().min() > 0.1
    assert gradient[0].abs().min() > 0, "the means still move"


def test_drawn_choices_follow_the_policy():
    logits = torch.tensor([0.0, 1.0, -1.0])[:, None].expand(3, 30_000)
    actions = Categorical().sample(logits, torch.rand(30_000, 1, generator=generator()))
    frequencies = torch.bincount(actions, minlength=3) / 30_000
    torch.testing.assert_close(frequencies, torch.softmax(logits[:, 0], 0), atol=0.01, rtol=0)
    assert not torch.allclose(frequencies, torch.softmax(-logits[:, 0], 0), atol=0.1)
    assert Categorical().best(logits).eq(1).all()
    assert Categorical().sample(logits, torch.full((30_000, 1), 1 - 2**-24)).max() == 2


def test_drawn_numbers_follow_the_policy():
    raw = torch.tensor([0.3, -0.2, 0.4, -1.0])[:, None].expand(4, 40_000)
    uniforms = torch.rand(40_000, 2, generator=generator())
    drawn = Gaussian(2).sample(raw, uniforms)
    deviations = np.exp([START + 0.4, START - 1.0])
    assert drawn.mean(0).tolist() == pytest.approx([0.3, -0.2], abs=0.02)
    assert drawn.std(0).tolist() == pytest.approx(deviations.tolist(), rel=0.02)
    assert float(torch.corrcoef(drawn.t())[0, 1]) == pytest.approx(0.0, abs=0.02)
    within = ((drawn - torch.tensor([0.3, -0.2])).abs() < torch.tensor(deviations)).float().mean(0)
    assert within.tolist() == pytest.approx([0.6827] * 2, abs=0.01), "normal, not only of the right moments"
    assert torch.equal(Gaussian(2).best(raw)[0], torch.tensor([0.3, -0.2]))
    assert torch.equal(drawn, Gaussian(2).sample(raw, uniforms)), "a pure function of outputs and draws"


def test_drawn_numbers_are_the_inverse_of_the_distribution():
    raw = torch.tensor([[0.3, -1.0, 0.0], [0.2, 0.0, 1.0]], dtype=DOUBLE)
    uniforms = torch.tensor([[0.9], [0.25], [0.5]], dtype=DOUBLE)
    drawn = Gaussian(1).sample(raw, uniforms)
    expected = torch_distribution("gaussian", raw).base_dist.icdf(uniforms)
    torch.testing.assert_close(drawn, expected)
    ends = Gaussian(1).sample(torch.zeros(2, 2), torch.tensor([[0.0], [1 - 2**-24]]))
    assert ends.isfinite().all() and ends[0] < -2 and ends[1] > 2


def test_numbers_that_a_group_does_not_have_are_zero_and_are_not_read():
    raw = torch.tensor([[0.5, -0.5], [0.0, 0.3]])  # one mean and one log deviation in a task whose longest action has 3
    gaussian = Gaussian(3)
    uniforms = torch.rand(2, 3, generator=generator())
    drawn = gaussian.sample(raw, uniforms)
    assert drawn.shape == (2, 3) and drawn[:, 1:].eq(0).all() and drawn[:, 0].ne(0).all()
    assert torch.equal(gaussian.best(raw), torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]]))
    other = uniforms.clone()
    other[:, 1:] = 0.5
    assert torch.equal(drawn, gaussian.sample(raw, other))
    filled = drawn.clone()
    filled[:, 1:] = 9.0
    assert torch.equal(gaussian.taken(raw, drawn).log_probability, gaussian.taken(raw, filled).log_probability)
    filled[:, 0] = 9.0
    assert not torch.equal(gaussian.taken(raw, drawn).log_probability, gaussian.taken(raw, filled).log_probability)


def test_the_distribution_of_a_task():
    discrete, continuous = Crew(1).spec, Number(1).spec
    choices, numbers = distribution_of(discrete), distribution_of(continuous)
    assert isinstance(choices, Categorical) and choices.width == 1
    assert [choices.outputs(group) for group in discrete.groups] == [3, 2]
    assert isinstance(numbers, Gaussian) and numbers.width == 2
    assert [numbers.outputs(group) for group in continuous.groups] == [4, 2]

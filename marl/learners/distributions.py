"""From the outputs of an actor to actions: choices (categorical) or numbers in [-1, 1] (Gaussian).

Outputs are ``[outputs, rows]``, as ``Network.forward`` gives them. Actions are drawn by inversion of uniform numbers:
they are a pure function of outputs and draws. Gradients are in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from learning_signal.marl.tasks.base import Group, TaskSpec

LOG_DEVIATION = (-4.0, -0.5, 1.0)
"""Smallest, initial and largest logarithm of a Gaussian's standard deviation; actions span 2."""


FORBIDDEN = -1e9
"""The output of an action that is not allowed: no value is as low, its probability is 0. Infinity would give NaN."""


def forbid(outputs: Tensor, allowed: Tensor) -> Tensor:
    """``outputs [actions, rows]``, changed in place where ``allowed [rows, actions or more]`` is False."""
    return outputs.masked_fill_(~allowed[:, : len(outputs)].t(), FORBIDDEN)


class Taken(NamedTuple):
    """What a gradient step needs to know about actions that were taken."""

    log_probability: Tensor
    """``[rows]``."""
    entropy: Tensor
    """``[rows]``, in nats."""
    gradient: Callable[[Tensor, Tensor | float], Tensor]
    """``(p [rows], e) -> [outputs, rows]``: gradient of ``sum(p * log_probability + e * entropy)`` with respect to the
    outputs; ``e`` is a number or ``[rows]``. May be called once."""


class Distribution(Protocol):
    """How the outputs of an actor are read."""

    width: int
    """Uniform numbers that one action takes."""

    def outputs(self, group: Group) -> int:
        """Outputs that the actor of ``group`` needs."""
        ...

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """One action per column, from ``uniforms [rows, width]`` in [0, 1)."""
        ...

    def best(self, outputs: Tensor) -> Tensor:
        """The most probable action of each column."""
        ...

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """``[rows]``: of ``actions``, one per column."""
        ...

    def taken(self, outputs: Tensor, actions: Tensor) -> Taken:
        """Log-probability, entropy and their gradient for ``actions``, one per column."""
        ...


def distribution_of(spec: TaskSpec) -> Distribution:
    """The distribution over the actions of a task."""
    return Gaussian(spec.actions) if spec.continuous else Categorical()


class Categorical:
    """One of several actions; the outputs are logits, an action is a whole number: ``[rows]`` int64."""

    width = 1

    def outputs(self, group: Group) -> int:
        return group.actions

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        cumulative = torch.softmax(outputs, 0).cumsum_(0)
        return (cumulative[:-1] <= uniforms[:, 0]).sum(0)

    def best(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(0)

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        return torch.log_softmax(outputs, 0).gather(0, actions[None])[0]

    def taken(self, outputs: Tensor, actions: Tensor) -> Taken:
        log_probabilities = torch.log_softmax(outputs, 0)
        probabilities = log_probabilities.exp()
        chosen = log_probabilities.gather(0, actions[None])[0]
        products = log_probabilities.mul_(probabilities)
        entropy = products.sum(0).neg_()

        def gradient(pull: Tensor, push: Tensor | float) -> Tensor:
            # d log p[taken] / d logits = onehot(taken) - p and d entropy / d logits = -p (log p + entropy).
            result = products.mul_(-push).addcmul_(probabilities, pull + push * entropy, value=-1)
            return result.scatter_add_(0, actions[None], pull[None])

        return Taken(chosen, entropy, gradient)


class Gaussian:
    """A vector of independent numbers, ``[rows, D]`` float32; outputs are ``D`` means, then ``D`` log deviations.

    Samples may leave [-1, 1]: their probabilities are those of the unbounded values, and who steps the task cuts them.
    """

    def __init__(self, size: int) -> None:
        self.width = size

    def outputs(self, group: Group) -> int:
        return 2 * group.actions

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        means, log_deviations, _ = self._parameters(outputs)
        # The inverse of 0 is infinite; nothing beyond 4.8 deviations is drawn.
        normal = torch.special.ndtri(uniforms.t()[: len(means)].clamp(1e-6, 1 - 1e-6))
        return self._rows(torch.addcmul(means, log_deviations.exp(), normal))

    def best(self, outputs: Tensor) -> Tensor:
        return self._rows(self._parameters(outputs)[0])

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        return self.taken(outputs, actions).log_probability

    def taken(self, outputs: Tensor, actions: Tensor) -> Taken:
        means, log_deviations, inside = self._parameters(outputs)
        away = (actions.t()[: len(means)] - means) * (-log_deviations).exp()
        constant = 0.5 * math.log(2 * math.pi)
        log_probability = (-0.5 * away.square() - log_deviations - constant).sum(0)
        entropy = (log_deviations + (constant + 0.5)).sum(0)

        def gradient(pull: Tensor, push: Tensor | float) -> Tensor:
            of_means = away * (-log_deviations).exp() * pull
            of_deviations = ((away.square() - 1) * pull + push) * inside
            return torch.cat([of_means, of_deviations])

        return Taken(log_probability, entropy, gradient)

    def _parameters(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, log deviations (within their bounds), and where those move with the outputs; each ``[D, rows]``."""
        means, raw = outputs.chunk(2)
        low, start, high = LOG_DEVIATION
        log_deviations = raw + start
        inside = ((log_deviations > low) & (log_deviations < high)).to(raw.dtype)
        return means, log_deviations.clamp(low, high), inside

    def _rows(self, values: Tensor) -> Tensor:
        """``[rows, D]`` of ``[d, rows]``: numbers that a group's shorter actions do not have are 0."""
        rows = values.new_zeros(values.shape[1], self.width)
        rows[:, : len(values)] = values.t()
        return rows

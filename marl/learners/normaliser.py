"""Running mean and standard deviation of value targets (Yu et al. 2022, arXiv 2103.01955)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class ValueNormaliser:
    """An exponential average of the mean and mean square of returns, corrected for its start at zero.

    One average over all agents: their returns share the team reward and differ only by shaping. The critic predicts
    normalised values; nothing rescales its last layer when the statistics move (that would be PopArt).
    """

    def __init__(self, decay: float = 0.99) -> None:
        """``decay`` is the weight kept of the old average at each update (one update per rollout)."""
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of the value normaliser is {decay}; give a number in [0, 1).")
        self.decay = decay
        # Double precision on the CPU: three numbers, and E[x^2] - E[x]^2 cancels badly in single precision.
        self.statistics = torch.zeros(3, dtype=torch.float64)

    def update(self, returns: Tensor) -> None:
        """Take in a batch of returns of any shape."""
        values = returns.double()
        batch = torch.stack([values.mean(), values.square().mean(), values.new_ones(())]).cpu()
        self.statistics.mul_(self.decay).add_(batch, alpha=1 - self.decay)

    @property
    def mean(self) -> float:
        """Mean of the returns seen so far (0 before the first update, so that values start as they are)."""
        total, _, weight = self.statistics.tolist()
        return total / weight if weight else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the returns seen so far, at least 0.01 (1 before the first update).

        The floor keeps a task that has not paid anything yet from having its noise blown up to unit size.
        """
        total, squares, weight = self.statistics.tolist()
        if not weight:
            return 1.0
        return max(math.sqrt(max(squares / weight - (total / weight) ** 2, 0.0)), 0.01)

    def normalise(self, returns: Tensor) -> Tensor:
        """``(returns - mean) / deviation``."""
        return (returns - self.mean) / self.deviation

    def denormalise(self, values: Tensor) -> Tensor:
        """``values * deviation + mean``: the inverse of ``normalise``."""
        return values * self.deviation + self.mean

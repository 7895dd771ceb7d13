"""What policy-gradient learners optimise: advantages, and losses with their gradients in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from learning_signal.marl.learners.distributions import Distribution


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages ``[T, E, A]`` (Schulman et al. 2016, arXiv 1506.02438, equations 11-16).

    ``rewards``, ``values`` of ``s_t`` and ``next_values`` of the *true* successors are ``[T, E, A]``; ``terminated``
    and ``ended`` (terminated or truncated) are ``[T, E]`` bool. A terminal state is worth 0; a truncated episode
    bootstraps from its successor; neither passes advantage on to the episode that follows it.
    """
    alive = (~terminated).to(rewards.dtype)[:, :, None]
    carry = (~ended).to(rewards.dtype)[:, :, None] * (discount * gae_lambda)
    advantages = rewards + discount * alive * next_values - values
    for t in reversed(range(len(rewards) - 1)):
        advantages[t].addcmul_(carry[t], advantages[t + 1])
    return advantages


def policy_gradient(
    distribution: Distribution,
    outputs: Tensor,
    actions: Tensor,
    old_log_probabilities: Tensor,
    advantages: Tensor,
    clip: float,
    entropy_weight: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradient ``[outputs, rows]`` with respect to ``outputs`` of the loss, and its statistics ``[4]``.

    The loss is ``-mean(min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage)) - entropy_weight *
    mean(entropy)``. The statistics are its first term, entropy, approximate KL and clip fraction. All other tensors
    are ``[rows]`` (``actions`` may have a second axis); ``weights`` of 0 leave rows out of every mean.
    """
    taken = distribution.taken(outputs, actions)
    log_ratio = taken.log_probability - old_log_probabilities
    if weights is not None:
        log_ratio = log_ratio.where(weights > 0, 0.0)  # 0 times an overflow is not 0
    ratio = log_ratio.exp()
    unclipped = ratio * advantages
    # min(r A, clamp(r, 1 - c, 1 + c) A) = min(r A, A + c |A|): only one side of the clamp is ever the smaller.
    ceiling = advantages.add(advantages.abs(), alpha=clip)
    change = ratio - 1
    terms = [torch.minimum(unclipped, ceiling).neg_(), taken.entropy, change - log_ratio, change.abs_() > clip]
    share = 1 / len(log_ratio) if weights is None else weights / weights.sum().clamp(min=1)
    statistics = torch.stack(terms).mean(1) if weights is None else torch.stack(terms) @ share
    # d ratio / d log-probability = ratio; the clipped branch is constant.
    pull = unclipped.masked_fill_(unclipped > ceiling, 0.0).mul_(-share)
    return taken.gradient(pull, -entropy_weight * share), statistics


def value_gradient(values: Tensor, old_values: Tensor, targets: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Gradient with respect to ``values`` of the clipped value loss, and the loss; all of one shape.

    The loss is ``mean(max((values - targets)^2, (clipped - targets)^2)) / 2`` where ``clipped`` keeps ``values``
    within ``clip`` of ``old_values``.
    """
    error, change = values - targets, values - old_values
    outside = change.abs() > clip
    clipped_error = change.clamp_(-clip, clip).add_(old_values).sub_(targets)
    square, clipped_square = error.square(), clipped_error.square_()
    # Where the clipped error is the larger, it no longer depends on the value. Within the range both are the same
    # error, and differ by rounding alone.
    gradient = error.masked_fill_(outside.logical_and_(square < clipped_square), 0.0).div_(error.numel())
    return gradient, torch.maximum(square, clipped_square).mean() / 2


def explained_variance(returns: Tensor, values: Tensor) -> float | None:
    """1 - var(returns - values) / var(returns), or None where the returns do not vary."""
    variance = float(returns.var())
    return None if variance == 0 else 1 - float((returns - values).var()) / variance

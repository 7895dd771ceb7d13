"""MAPPO and IPPO: proximal policy optimisation with shared parameters, from a rollout to new weights.

MAPPO (Yu et al. 2022, arXiv 2103.01955): the critic sees the joint state, once, and has one output per agent. IPPO (de
Witt et al. 2020, arXiv 2011.09533): the critic sees what its agent sees. Everything else is the same. The clipped
objective is that of Schulman et al. 2017 (arXiv 1707.06347, equation 7); its gradient is written in closed form.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.learners.networks import Adam, Network, Workspace
from marl.learners.normaliser import ValueNormaliser
from marl.learners.rollout import Rollout
from marl.randomness import derive
from marl.settings import LearnerSettings
from marl.tasks.base import TaskSpec

SMALLEST_SCALE = 0.01
"""Advantages are not scaled up from a standard deviation below this (in units of reward).

Without it a task that has not paid anything yet blows the critic's own noise up to unit size, and the policy follows
it until it no longer explores. One reward of 1 in a rollout of thousands of steps is already well above.
"""


class Diverged(RuntimeError):
    """A loss, a metric or a weight is no longer finite."""


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
    logits: Tensor,
    actions: Tensor,
    old_log_probabilities: Tensor,
    advantages: Tensor,
    clip: float,
    entropy_weight: float,
) -> tuple[Tensor, Tensor]:
    """Gradient ``[actions, rows]`` with respect to ``logits`` of the loss, and its statistics ``[4]``.

    The loss is ``-mean(min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage)) - entropy_weight *
    mean(entropy)``. The statistics are its first term, entropy, approximate KL and clip fraction. All inputs but
    ``logits`` are ``[rows]``.
    """
    log_probabilities, probabilities = torch.log_softmax(logits, 0), torch.softmax(logits, 0)
    log_ratio = log_probabilities.gather(0, actions[None])[0].sub_(old_log_probabilities)
    ratio = log_ratio.exp()
    unclipped = ratio * advantages
    clipped = ratio.clamp(1 - clip, 1 + clip).mul_(advantages)
    entropy = (probabilities * log_probabilities).sum(0).neg_()

    # d ratio / d log-probability = ratio; the clipped branch is constant. With p the probabilities and H the entropy:
    # d log p[taken] / d logits = onehot(taken) - p and d H / d logits = -p (log p + H).
    rows = len(actions)
    pull = unclipped.where(unclipped <= clipped, 0.0).mul_(-1 / rows)
    gradient = log_probabilities.add_(entropy).mul_(entropy_weight / rows).sub_(pull).mul_(probabilities)
    gradient.scatter_add_(0, actions[None], pull[None])
    statistics = torch.stack(
        [
            -torch.minimum(unclipped, clipped).mean(),
            entropy.mean(),
            (ratio - 1 - log_ratio).mean(),
            ((ratio - 1).abs_() > clip).to(ratio.dtype).mean(),
        ]
    )
    return gradient, statistics


def value_gradient(values: Tensor, old_values: Tensor, targets: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Gradient with respect to ``values`` of the clipped value loss, and the loss; all of one shape.

    The loss is ``mean(max((values - targets)^2, (clipped - targets)^2)) / 2`` where ``clipped`` keeps ``values``
    within ``clip`` of ``old_values``.
    """
    error = values - targets
    clipped_error = (values - old_values).clamp_(-clip, clip).add_(old_values).sub_(targets)
    square, clipped_square = error.square(), clipped_error.square_()
    # Where the clipped error is the larger, it no longer depends on the value.
    gradient = error.where(square >= clipped_square, 0.0).div_(error.numel())
    return gradient, torch.maximum(square, clipped_square).mean() / 2


class Learner:
    """Actor, critic, their optimisers and the value normaliser: all that a checkpoint holds, and one update step."""

    def __init__(self, spec: TaskSpec, settings: LearnerSettings, seed: int) -> None:
        """New networks whose initial weights depend on ``seed`` alone."""
        self.spec, self.settings = spec, settings
        own = spec.observation_size + spec.agents
        joint = settings.algorithm == "mappo"
        generator = torch.Generator().manual_seed(derive(seed, "initial weights"))
        shared = {"generator": generator, "device": settings.device}
        self.actor = Network(own, settings.hidden, spec.actions, output_gain=0.01, **shared)
        # The critic, too, starts near 0: else its first guesses are the only signal while the task pays nothing.
        critic_inputs, critic_outputs = (spec.state_size, spec.agents) if joint else (own, 1)
        self.critic = Network(critic_inputs, settings.hidden, critic_outputs, output_gain=0.01, **shared)
        self.actor_optimiser = Adam(self.actor, settings.learning_rate)
        self.critic_optimiser = Adam(self.critic, settings.learning_rate)
        self.normaliser = ValueNormaliser()
        self._workspaces: dict[tuple[str, int], Workspace] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; the tensors themselves, not copies."""
        return {
            "actor": self.actor.parameters,
            "critic": self.critic.parameters,
            "actor_first_moment": self.actor_optimiser.first_moment,
            "actor_second_moment": self.actor_optimiser.second_moment,
            "critic_first_moment": self.critic_optimiser.first_moment,
            "critic_second_moment": self.critic_optimiser.second_moment,
            "value_normaliser": self.normaliser.statistics,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores: copies of all tensors on the CPU, and the number of optimiser steps."""
        stored: dict[str, Any] = {name: tensor.cpu().clone() for name, tensor in self.tensors().items()}
        stored["optimiser_steps"] = self.actor_optimiser.steps
        return stored

    def load(self, stored: dict[str, Any]) -> None:
        """Continue from ``stored`` (see ``state``); ``ValueError`` if it belongs to other networks."""
        tensors = self.tensors()
        for name, tensor in tensors.items():
            if name not in stored or stored[name].shape != tensor.shape:
                found = tuple(stored[name].shape) if name in stored else "nothing"
                raise ValueError(
                    f"The checkpoint holds {found} for {name!r} where this learner has {tuple(tensor.shape)}; "
                    "use the task, algorithm and hidden layers it was trained with."
                )
        for name, tensor in tensors.items():
            tensor.copy_(stored[name])
        self.actor_optimiser.steps = self.critic_optimiser.steps = stored["optimiser_steps"]

    def update(self, rollout: Rollout, generator: np.random.Generator) -> dict[str, float | None]:
        """Several passes of clipped gradient steps over ``rollout``; ``generator`` draws the minibatches.

        Returns the part of ``METRICS`` that concerns learning. ``Diverged`` if anything is no longer finite.
        """
        settings, device = self.settings, self.settings.device
        steps, environments, agents = rollout.rewards.shape
        samples = steps * environments

        # 1. Values of all states, advantages and normalised targets of the critic.
        rewards = rollout.rewards.to(device)
        terminated = torch.from_numpy(rollout.terminated).to(device)
        ended = terminated | torch.from_numpy(rollout.truncated).to(device)
        critic_inputs = rollout.critic_inputs.to(device)
        predictions = self._predict(critic_inputs).view(steps + 1, environments, agents)
        values = self.normaliser.denormalise(predictions)
        next_values = values[1:]
        if rollout.cuts:
            next_values = next_values.clone()
            for cut in rollout.cuts:
                predicted = self._predict(cut.critic_inputs.to(device)).view(-1, agents)
                next_values[cut.step, torch.from_numpy(cut.environments)] = self.normaliser.denormalise(predicted)
        advantages = generalised_advantages(
            rewards, values[:-1], next_values, terminated, ended, settings.discount, settings.gae_lambda
        )
        returns = advantages + values[:-1]
        explained = _explained_variance(returns, values[:-1])
        self.normaliser.update(returns)
        advantages = (advantages - advantages.mean()) / advantages.std().clamp(min=SMALLEST_SCALE)

        # 2. One row per joint state, so that the critic is evaluated once for all agents.
        actions = rollout.actions.to(device)
        log_probabilities = torch.log_softmax(rollout.logits, 1).gather(1, actions[:, None])
        columns = [
            rollout.inputs.to(device)[:-1].reshape(samples, -1),
            actions.view(samples, agents),
            log_probabilities.view(samples, agents),
            advantages.view(samples, agents),
            predictions[:-1].reshape(samples, agents),
            self.normaliser.normalise(returns).view(samples, agents),
        ]
        if settings.algorithm == "mappo":
            columns.append(critic_inputs[:-1].view(samples, -1))
        shuffled = [torch.empty_like(column) for column in columns]

        # 3. Clipped gradient steps. Each pass shuffles once; its minibatches are then contiguous slices.
        statistics = []
        bounds = [samples * k // settings.minibatches for k in range(settings.minibatches + 1)]
        for _ in range(settings.epochs):
            order = torch.from_numpy(generator.permutation(samples)).to(device)
            for column, target in zip(columns, shuffled, strict=True):
                torch.index_select(column, 0, order, out=target)
            for first, last in zip(bounds[:-1], bounds[1:], strict=True):
                statistics.append(self._gradient_step([column[first:last] for column in shuffled]))

        # 4. What happened.
        means = torch.stack(statistics).mean(0).tolist()
        names = ("policy_loss", "entropy", "approximate_kl", "clip_fraction", "value_loss", "gradient_norm")
        metrics = dict(zip(names, means, strict=True)) | {"explained_variance": explained}
        self._refuse_divergence(metrics)
        return metrics

    def _gradient_step(self, minibatch: list[Tensor]) -> Tensor:
        """One Adam step of actor and critic on a minibatch of joint states; statistics ``[6]``."""
        settings = self.settings
        inputs, actions, old_log_probabilities, advantages, old_values, targets, *states = minibatch
        inputs = inputs.view(-1, self.actor.inputs)
        workspace = self._workspace("actor", len(inputs))
        logits = self.actor.forward(inputs, workspace)
        gradient, policy_statistics = policy_gradient(
            logits,
            actions.view(-1),
            old_log_probabilities.view(-1),
            advantages.view(-1),
            settings.clip,
            settings.entropy,
        )
        self.actor.backward(inputs, workspace, gradient)
        actor_norm = self._descend(self.actor, self.actor_optimiser)

        critic_inputs = states[0] if states else inputs
        workspace = self._workspace("critic", len(critic_inputs))
        values = self.critic.forward(critic_inputs, workspace)
        outputs = self.critic.outputs  # all agents of a joint state (MAPPO), or the one agent of a row (IPPO)
        gradient, value_loss = value_gradient(
            values, old_values.view(-1, outputs).t(), targets.view(-1, outputs).t(), settings.clip
        )
        self.critic.backward(critic_inputs, workspace, gradient)
        self._descend(self.critic, self.critic_optimiser)
        return torch.cat([policy_statistics, torch.stack([value_loss, actor_norm])])

    def _descend(self, network: Network, optimiser: Adam) -> Tensor:
        """One optimiser step on the network's gradient, scaled down to the largest norm allowed; its norm before."""
        norm = torch.linalg.vector_norm(network.gradient)
        optimiser.step((self.settings.max_gradient_norm / (norm + 1e-6)).clamp_(max=1.0))
        return norm

    def _predict(self, critic_inputs: Tensor) -> Tensor:
        """Normalised values, one per agent of each leading index, as a flat new tensor in (…, agent) order."""
        rows = critic_inputs.view(-1, self.critic.inputs)
        return self.critic.forward(rows, self._workspace("critic", len(rows))).t().reshape(-1)

    def _workspace(self, network: str, rows: int) -> Workspace:
        if (network, rows) not in self._workspaces:
            self._workspaces[network, rows] = getattr(self, network).workspace(rows, gradients=True)
        return self._workspaces[network, rows]

    def _refuse_divergence(self, metrics: dict[str, float | None]) -> None:
        for name, value in metrics.items():
            if value is not None and not math.isfinite(value):
                raise Diverged(f"{name.replace('_', ' ')} became {'NaN' if math.isnan(value) else 'infinite'}")
        for name, tensor in self.tensors().items():
            if not bool(torch.isfinite(tensor).all()):
                raise Diverged(f"{name.replace('_', ' ')} weights became NaN or infinite")


def _explained_variance(returns: Tensor, values: Tensor) -> float | None:
    """1 - var(returns - values) / var(returns), or None where the returns do not vary."""
    variance = float(returns.var())
    return None if variance == 0 else 1 - float((returns - values).var()) / variance

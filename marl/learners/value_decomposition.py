"""QMIX and VDN: deep Q-learning of a joint value that is made of one value per agent.

VDN (Sunehag et al. 2018, arXiv 1706.05296): the joint value is the sum of the agents' values. QMIX (Rashid et al. 2018,
arXiv 1803.11485): it is any monotonic function of them, given by a mixing network whose weights depend on the joint
state. Either way the best joint action is each agent's own best action. Both learn off policy from a replay, with
double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461) and target networks that follow slowly. They optimise the
*team's* return: the sparse reward plus the mean over agents of the shaping reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.base import Part, copies, refuse_divergence, restore
from learning_signal.marl.learners.distributions import FORBIDDEN, Categorical, Distribution, forbid
from learning_signal.marl.learners.networks import Adam, Network, Workspace
from learning_signal.marl.learners.policy import Choose, Policy, greedy, input_size, places
from learning_signal.marl.learners.replay import Batch, Moment, Replay
from learning_signal.marl.learners.rollout import Rollout
from learning_signal.marl.randomness import derive
from learning_signal.marl.settings import LearnerSettings, QLearningSettings
from learning_signal.marl.tasks.base import Group, TaskSpec


class Values(Categorical):
    """Outputs are action values, not logits: the action drawn is the best one."""

    def outputs(self, group: Group) -> int:
        return group.actions

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        return self.best(outputs)


def exploration(settings: QLearningSettings, env_steps: int) -> float:
    """Epsilon, the probability of a random action, at this position of the run: it falls linearly, then stays."""
    left = max(1 - env_steps / settings.exploration_env_steps, 0.0)
    return settings.exploration_end + left * (settings.exploration_start - settings.exploration_end)


def epsilon_greedy(epsilon: float, masked: bool = False) -> Choose:
    """A uniformly random action with probability ``epsilon``, else the best one; with ``masked`` of those allowed.

    One uniform number decides both: below ``epsilon`` it is, divided by it, again uniform in [0, 1).
    """
    if epsilon == 0:
        return greedy

    def choose(distribution: Distribution, outputs: Tensor, uniforms: Tensor) -> Tensor:
        draws, count = uniforms[:, 0], len(outputs)
        # Rounding may lift the largest quotients to 1.
        random = (draws * (count / epsilon)).to(torch.int64).clamp_(max=count - 1)
        return torch.where(draws < epsilon, random, distribution.best(outputs))

    def choose_allowed(distribution: Distribution, outputs: Tensor, uniforms: Tensor) -> Tensor:
        draws, allowed = uniforms[:, 0], outputs > FORBIDDEN
        count = allowed.sum(0)
        place = (draws * (count / epsilon)).to(torch.int64).minimum(count - 1)
        random = (allowed.cumsum(0) <= place).sum(0)
        return torch.where(draws < epsilon, random, distribution.best(outputs))

    return choose_allowed if masked else choose


def double_q(online: Tensor, target: Tensor) -> Tensor:
    """Values ``[rows]`` by the ``target`` network of the actions that are best by the ``online`` one.

    Both are ``[actions, rows]``. Choosing and valuing by one network would favour its errors upwards (van Hasselt et
    al. 2016, equation 4).
    """
    return target.gather(0, online.argmax(0, keepdim=True))[0]


def monotonic_mix(values: Tensor, weights: Tensor) -> Tensor:
    """QMIX's joint values ``[B]`` of agents' ``values [B, A]``: one hidden layer of ``M`` units with weights >= 0.

    ``weights`` are ``[(A + 2) M + 1, B]``, a hypernetwork's outputs: ``A M`` weights and ``M`` biases of the hidden
    layer, ``M`` weights and the bias of the output (Rashid et al. 2018, section 4.1). Only the weights, not the
    biases, are made positive, so that the joint value never falls when an agent's value rises.
    """
    agents = values.shape[1]
    units = (len(weights) - 1) // (agents + 2)
    first, biases, second, bias = weights.split([agents * units, units, units, 1])
    hidden = (first.abs().view(agents, units, -1) * values.t()[:, None]).sum(0) + biases
    return (second.abs() * torch.nn.functional.elu(hidden)).sum(0) + bias[0]


@dataclass(frozen=True)
class Pair:
    """A network that learns, the target network that follows it, and the buffers of both for one batch."""

    part: Part[Network]
    target: Network
    workspace: Workspace
    target_workspace: Workspace


class ValueDecompositionLearner:
    """QMIX or VDN: value networks (one per group of agents), mixer, targets, optimisers and replay (a ``Learner``)."""

    def __init__(self, spec: TaskSpec, settings: LearnerSettings, seed: int) -> None:
        """New networks whose initial weights depend on ``seed`` alone, and an empty replay."""
        self.spec, self.settings = spec, settings
        self.keeps = tuple(feature.name for feature in spec.features)
        generator = torch.Generator().manual_seed(derive(seed, "initial weights"))
        own, distribution = settings.q_learning, Values()

        def pair(name: str, group: int | None, inputs: int, hidden: tuple[int, ...], outputs: int, gain: float) -> Pair:
            online, target = (
                Network(inputs, hidden, outputs, output_gain=gain, generator=generator, device=settings.device)
                for _ in range(2)
            )
            target.parameters.copy_(online.parameters)
            where = slice(None) if group is None else places(spec.groups[group])
            rows = own.batch_size * (1 if group is None else len(spec.groups[group].agents))
            # A rare reward is a tiny gradient in the mean of a batch: Adam must not take it for noise.
            part = Part(name, online, Adam(online, own.learning_rate, epsilon=1e-8), group, where)
            return Pair(part, target, online.workspace(rows, gradients=True), target.workspace(rows))

        # A name says which group only where there are several. Values start near 0: the reward is the first signal.
        names = ["values" if len(spec.groups) == 1 else f"values_{group.name}" for group in spec.groups]
        self.agents = [
            pair(name, index, input_size(group), settings.hidden, distribution.outputs(group), 0.01)
            for index, (name, group) in enumerate(zip(names, spec.groups, strict=True))
        ]
        self.mixer = None
        if settings.algorithm == "qmix":
            outputs = (spec.agents + 2) * own.mixing_units + 1
            self.mixer = pair("mixer", None, spec.state_size, (own.hypernetwork_units,), outputs, 1.0)
        self.pairs = [*self.agents, *([] if self.mixer is None else [self.mixer])]
        self.policy = Policy(spec, [one.part.network for one in self.agents], distribution)
        self.replay = Replay(spec, settings)

    def tensors(self) -> dict[str, Tensor]:
        """All weights and moments, by name; the tensors themselves, not copies."""
        named = {name: tensor for one in self.pairs for name, tensor in one.part.tensors().items()}
        return named | {f"{one.part.name}_target": one.target.parameters for one in self.pairs}

    def state(self) -> dict[str, Any]:
        return {**copies(self.tensors()), **self.replay.state(), "optimiser_steps": self.agents[0].part.optimiser.steps}

    def load(self, stored: Mapping[str, Any]) -> None:
        restore(self.tensors(), stored)
        self.replay.load(stored)
        for one in self.pairs:
            one.part.optimiser.steps = stored["optimiser_steps"]

    def behaviour(self, env_steps: int) -> Choose:
        """Epsilon-greedy; a rollout keeps the epsilon of its beginning."""
        return epsilon_greedy(exploration(self.settings.q_learning, env_steps), self.spec.masks_actions)

    def update(self, rollout: Rollout, generator: np.random.Generator) -> dict[str, float | None]:
        """Store ``rollout``, then take gradient steps on batches of the replay, rewarded as of the rollout's end."""
        settings, now = self.settings.q_learning, rollout.env_steps + rollout.sparse_rewards.size
        self.replay.add(rollout)
        statistics = []
        for _ in range(settings.gradient_steps):
            batch = self.replay.draw(settings.batch_size, generator, rollout.potential, now)
            statistics.append(self._gradient_step(batch.to(self.settings.device)))
            for one in self.pairs:
                one.target.parameters.lerp_(one.part.network.parameters, settings.target_rate)
        means = torch.stack(statistics).mean(0).tolist()
        metrics = dict(zip(("td_loss", "joint_value", "gradient_norm"), means, strict=True))
        metrics |= {"epsilon": exploration(settings, rollout.env_steps), "replay_env_steps": len(self.replay)}
        refuse_divergence(metrics, self.tensors())
        return metrics

    def _gradient_step(self, batch: Batch) -> Tensor:
        """One Adam step of every network towards the one-step targets; loss, joint value and gradient norm ``[3]``."""
        # 1. Targets: the reward, and what the successor is worth where there is one.
        values_after = torch.empty(batch.actions.shape, device=self.settings.device)
        for one in self.agents:
            inputs = one.part.inputs(batch.after).flatten(0, 1)
            online = one.part.network.forward(inputs, one.workspace)
            if batch.after.allowed is not None:
                forbid(online, batch.after.allowed[:, one.part.places].flatten(0, 1))
            best = double_q(online, one.target.forward(inputs, one.target_workspace))
            values_after[:, one.part.places] = best.view(len(values_after), -1)
        weights_after = None
        if self.mixer is not None:
            # Nobody acts in a state at the time limit, so what the mixer would make of it was never learned: the state
            # before stands in for it. (With time in the state, the extrapolation feeds on itself and diverges.)
            states = torch.where(batch.truncated[:, None], batch.before.states, batch.after.states)
            weights_after = self.mixer.target.forward(states, self.mixer.target_workspace)
        total_after = self._joint(values_after, batch.after, weights_after)
        targets = batch.rewards + self.settings.discount * total_after.where(~batch.terminated, 0.0)

        # 2. Values of the actions that were taken.
        values = torch.empty_like(values_after)
        for one in self.agents:
            outputs = one.part.network.forward(one.part.inputs(batch.before).flatten(0, 1), one.workspace)
            taken = batch.actions[:, one.part.places]
            values[:, one.part.places] = outputs.gather(0, taken.reshape(1, -1)).view(taken.shape)
        weights = None
        if self.mixer is not None:
            weights = self.mixer.part.network.forward(batch.before.states, self.mixer.workspace).detach()

        # 3. The loss, and its gradient with respect to what the networks gave.
        with torch.enable_grad():
            given = [one.requires_grad_() for one in (values, weights) if one is not None]
            total = self._joint(values, batch.before, weights)
            loss = (total - targets).square().mean() / 2
            of_values, *of_weights = torch.autograd.grad(loss, given)

        # 4. From there to the weights of the networks, and a step.
        norms = []
        for one in self.agents:
            taken = batch.actions[:, one.part.places].reshape(1, -1)
            gradient = torch.zeros_like(one.workspace.outputs)
            gradient.scatter_(0, taken, of_values[:, one.part.places].reshape(1, -1))
            inputs = one.part.inputs(batch.before).flatten(0, 1)
            one.part.network.backward(inputs, one.workspace, gradient)
            norms.append(one.part.descend(self.settings.max_gradient_norm))
        if self.mixer is not None:
            self.mixer.part.network.backward(batch.before.states, self.mixer.workspace, of_weights[0])
            self.mixer.part.descend(self.settings.max_gradient_norm)
        return torch.stack([loss.detach(), total.detach().mean(), torch.stack(norms).mean()])

    def _joint(self, values: Tensor, moment: Moment, weights: Tensor | None) -> Tensor:
        """Joint values ``[B]``; those who have left are worth 0."""
        if moment.alive is not None:
            values = values * moment.alive
        return values.sum(1) if weights is None else monotonic_mix(values, weights)

"""MAPPO and IPPO: proximal policy optimisation with shared parameters, from a rollout to new weights.

MAPPO (Yu et al. 2022, arXiv 2103.01955): the critic sees the joint state, once, and has one output per agent. IPPO (de
Witt et al. 2020, arXiv 2011.09533): the critic sees what its agent sees. Everything else is the same. The clipped
objective is that of Schulman et al. 2017 (arXiv 1707.06347, equation 7).

The backward pass is written by hand, for speed: ``objectives`` gives the gradient of the loss with respect to the
outputs of a network, and each network carries it back to its weights. Tests prove both equal to autograd's
(test_policy_gradient, test_recurrent). Whoever changes the loss changes its gradient, too;
``PlainMappo`` in ``bench/training.py`` is the same algorithm in plain torch, to try a change on or to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.base import Part, copies, refuse_divergence, restore
from learning_signal.marl.learners.distributions import distribution_of, forbid
from learning_signal.marl.learners.networks import Adam, Network, Workspace
from learning_signal.marl.learners.normaliser import ValueNormaliser
from learning_signal.marl.learners.objectives import (
    explained_variance,
    generalised_advantages,
    policy_gradient,
    value_gradient,
)
from learning_signal.marl.learners.policy import Choose, Policy, input_size, places, sample
from learning_signal.marl.learners.recurrent import RecurrentNetwork
from learning_signal.marl.learners.rollout import Cut, Rollout
from learning_signal.marl.randomness import derive
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.tasks.base import TaskSpec

STATISTICS = ("policy_loss", "entropy", "approximate_kl", "clip_fraction", "gradient_norm", "value_loss")
"""Of a gradient step, in this order."""
APPROXIMATE_KL = STATISTICS.index("approximate_kl")

SMALLEST_SCALE = 0.01
"""Advantages are not scaled up from a standard deviation below this (in units of reward).

Without it the noise of the critic is scaled up to unit size while a task has given no reward yet, and the policy
follows it until it no longer explores. One reward of 1 in a rollout of thousands of steps is already well above.
"""


AnyPart = Part[Network | RecurrentNetwork]


class PolicyGradientLearner:
    """MAPPO or IPPO: actors, critics, their optimisers and the value normaliser (a ``Learner``).

    One actor per group of agents. MAPPO has one critic, with an output per agent; IPPO one critic per group. With
    ``memory="gru"`` all that see observations are recurrent; the joint state needs no memory.
    """

    keeps: tuple[str, ...] = ()

    def __init__(self, spec: TaskSpec, settings: LearnerSettings, seed: int) -> None:
        """New networks whose initial weights depend on ``seed`` alone."""
        self.spec, self.settings = spec, settings
        self.recurrent = settings.memory == "gru"
        generator = torch.Generator().manual_seed(derive(seed, "initial weights"))
        distribution = distribution_of(spec)

        def part(name: str, group: int | None, inputs: int, outputs: int, where: slice | list[int]) -> AnyPart:
            make = RecurrentNetwork if self.recurrent and group is not None else Network
            network = make(
                inputs, settings.hidden, outputs, output_gain=0.01, generator=generator, device=settings.device
            )
            return Part(name, network, Adam(network, settings.learning_rate), group, where)

        # A name says which group only where there are several.
        names = ["" if len(spec.groups) == 1 else f"_{group.name}" for group in spec.groups]
        grouped = list(zip(range(len(names)), names, spec.groups, strict=True))
        self.actors = [
            part(f"actor{name}", index, input_size(group), distribution.outputs(group), places(group))
            for index, name, group in grouped
        ]
        # The critics start near 0 as well: their initial values would be the only signal until the first reward.
        if settings.algorithm == "mappo":
            self.critics = [part("critic", None, spec.state_size, spec.agents, slice(None))]
        else:
            self.critics = [
                part(f"critic{name}", index, input_size(group), 1, places(group)) for index, name, group in grouped
            ]
        self.parts = [*self.actors, *self.critics]
        self.policy = Policy(spec, [actor.network for actor in self.actors], distribution)
        self.normaliser = ValueNormaliser()
        self._workspaces: dict[tuple[str, int], Workspace] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name; the tensors themselves, not copies."""
        named = {name: tensor for part in self.parts for name, tensor in part.tensors().items()}
        return named | {"value_normaliser": self.normaliser.statistics}

    def state(self) -> dict[str, Any]:
        return {**copies(self.tensors()), "optimiser_steps": self.actors[0].optimiser.steps}

    def load(self, stored: Mapping[str, Any]) -> None:
        restore(self.tensors(), stored)
        for part in self.parts:
            part.optimiser.steps = stored["optimiser_steps"]

    def behaviour(self, env_steps: int) -> Choose:
        """Actions are drawn from the policy, always."""
        return sample

    def update(self, rollout: Rollout, generator: np.random.Generator) -> dict[str, float | None]:
        """Several epochs of clipped gradient steps over ``rollout``; ``largest_kl`` ends them early."""
        largest, statistics = self.settings.largest_kl, []
        # Without autograd's bookkeeping each of a thousand small operations is a little faster.
        with torch.inference_mode():
            columns, explained = self.prepare(rollout)
            for batch in self._minibatches(columns, generator):
                statistics.append(self._gradient_step(batch))
                if largest is not None and float(statistics[-1][APPROXIMATE_KL]) > largest:
                    break
            return self.conclude(statistics, explained)

    def prepare(self, rollout: Rollout) -> tuple[dict[str, Tensor], float | None]:
        """What gradient steps read, by name, and the explained variance; the value normaliser has seen ``rollout``.

        A sample is one joint state (so that a joint critic sees it once for all agents): ``[T * E, ...]``. With memory
        it is one environment's whole sequence: ``[T, E, ...]``.
        """
        settings, device = self.settings, self.settings.device
        alive = None if rollout.alive is None else torch.from_numpy(rollout.alive[:-1]).to(device)

        # Values of all states and of the true successors, advantages, normalised targets of the critics.
        predictions, next_predictions = self._predict(rollout)
        values = self.normaliser.denormalise(predictions)
        advantages = generalised_advantages(
            rollout.rewards.to(device),
            values,
            self.normaliser.denormalise(next_predictions),
            torch.from_numpy(rollout.terminated).to(device),
            torch.from_numpy(rollout.ended).to(device),
            settings.discount,
            settings.gae_lambda,
        )
        returns = advantages + values
        explained = explained_variance(returns, values)
        self.normaliser.update(returns)
        counted = advantages if alive is None else advantages[alive]
        advantages = (advantages - counted.mean()) / counted.std().clamp(min=SMALLEST_SCALE)

        columns = {part.sees: part.inputs(rollout)[:-1].to(device) for part in self.parts} | {
            "actions": rollout.actions.to(device),
            "log_probabilities": self._log_probabilities(rollout),
            "advantages": advantages,
            "predictions": predictions,
            "targets": self.normaliser.normalise(returns),
        }
        if alive is not None:
            columns["alive"] = alive.to(advantages.dtype)
        if rollout.allowed is not None:
            columns["allowed"] = torch.from_numpy(rollout.allowed[:-1]).to(device)
        if self.recurrent:
            columns["starts"] = torch.from_numpy(rollout.starts).to(device)
            return columns, explained
        return {name: column.flatten(0, 1) for name, column in columns.items()}, explained

    def conclude(self, statistics: Sequence[Tensor], explained: float | None) -> dict[str, float | None]:
        """The metrics of an update from those ``[6]`` of its gradient steps; ``Diverged`` where one is not finite."""
        means = torch.stack(list(statistics)).mean(0).tolist()
        metrics = dict(zip(STATISTICS, means, strict=True)) | {"explained_variance": explained}
        refuse_divergence(metrics, self.tensors())
        return metrics

    def _minibatches(self, columns: dict[str, Tensor], generator: np.random.Generator) -> Iterator[dict[str, Tensor]]:
        """Some samples of ``columns`` at a time. Each pass shuffles once; its minibatches are then neighbours."""
        settings, axis = self.settings, int(self.recurrent)
        samples = columns["advantages"].shape[axis]
        bounds = [samples * k // settings.minibatches for k in range(settings.minibatches + 1)]
        shuffled = {name: torch.empty_like(column) for name, column in columns.items()}
        for _ in range(settings.epochs):
            order = torch.from_numpy(generator.permutation(samples)).to(settings.device)
            for name, column in columns.items():
                torch.index_select(column, axis, order, out=shuffled[name])
            for first, last in zip(bounds[:-1], bounds[1:], strict=True):
                yield {name: column.narrow(axis, first, last - first) for name, column in shuffled.items()}

    def _gradient_step(self, batch: dict[str, Tensor]) -> Tensor:
        """One Adam step of every network on ``batch``, a part of each column; statistics ``[6]``."""
        settings, norms = self.settings, self.settings.max_gradient_norm
        actor_statistics, critic_losses = torch.zeros(5, device=settings.device), []
        for actor, group in zip(self.actors, self.spec.groups, strict=True):
            outputs, backward = self._forward(actor, batch)
            if "allowed" in batch:
                forbid(outputs, self._rows(actor, batch["allowed"]))
            gradient, statistics = policy_gradient(
                self.policy.distribution,
                outputs,
                self._rows(actor, batch["actions"]),
                self._rows(actor, batch["log_probabilities"]),
                self._rows(actor, batch["advantages"]),
                settings.clip,
                settings.entropy,
                self._rows(actor, batch["alive"]) if "alive" in batch else None,
            )
            backward(gradient)
            weight = len(group.agents) / self.spec.agents
            actor_statistics += weight * torch.cat([statistics, actor.descend(norms)[None]])
        for critic in self.critics:
            values, backward = self._forward(critic, batch)
            gradient, loss = value_gradient(
                values,
                self._rows(critic, batch["predictions"]).view(-1, len(values)).t(),
                self._rows(critic, batch["targets"]).view(-1, len(values)).t(),
                settings.clip,
            )
            backward(gradient)
            critic.descend(norms)
            critic_losses.append(loss)
        return torch.cat([actor_statistics, torch.stack(critic_losses).mean()[None]])

    def _forward(self, part: AnyPart, batch: dict[str, Tensor]) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Outputs ``[outputs, rows]`` of a network for ``batch``, and what sets its gradient from theirs."""
        network, inputs = part.network, batch[part.sees]
        if isinstance(network, RecurrentNetwork):
            starts = batch["starts"].repeat_interleave(inputs.shape[2], dim=1)
            return network.unroll(inputs.flatten(1, 2), starts), network.backward
        inputs = inputs.flatten(0, -2)
        workspace = self._workspace(part.name, network, len(inputs))
        return network.forward(inputs, workspace), lambda gradient: network.backward(inputs, workspace, gradient)

    def _rows(self, part: AnyPart, column: Tensor) -> Tensor:
        """What ``column`` holds of the agents that a network serves, one row per row of its outputs."""
        leading = 1 + self.recurrent
        return column[(slice(None),) * leading + (part.places,)].flatten(0, leading)

    def _log_probabilities(self, rollout: Rollout) -> Tensor:
        """Of the actions when they were taken: ``[T, E, A]``."""
        result = torch.zeros(rollout.rewards.shape, device=self.settings.device)
        for actor, outputs in zip(self.actors, rollout.outputs, strict=True):
            actions = rollout.actions.to(self.settings.device)[:, :, actor.places].flatten(0, 2)
            # Rows are in the order of time, environment, agent; outputs come first.
            columns = outputs.transpose(0, 1).flatten(1)
            of_actions = self.policy.distribution.log_probability(columns, actions)
            result[:, :, actor.places] = of_actions.view(*result.shape[:2], -1)
        return result

    def _predict(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Normalised values of the states and of their true successors, each ``[T, E, A]``."""
        steps, environments, agents = rollout.rewards.shape
        values = torch.zeros(steps + 1, environments, agents, device=self.settings.device)
        successors = torch.zeros(steps, environments, agents, device=self.settings.device)
        for critic in self.critics:
            network = critic.network
            if isinstance(network, RecurrentNetwork):
                self._predict_in_order(critic, network, rollout, values, successors)
                continue
            values[:, :, critic.places] = self._values(critic, network, rollout)
            successors[:, :, critic.places] = values[1:, :, critic.places]
            for cut in rollout.cuts:
                self._replace(successors, critic, cut, self._values(critic, network, cut))
        return values[:-1], successors

    def _replace(self, successors: Tensor, critic: AnyPart, cut: Cut, values: Tensor) -> None:
        """Put the ``values [K, A_g]`` of a cut's states in their places."""
        served = np.arange(self.spec.agents)[critic.places]
        successors[cut.step, cut.environments[:, None], served] = values

    def _values(self, critic: AnyPart, network: Network, seen: Rollout | Cut) -> Tensor:
        """Normalised values ``[..., agents]`` by a critic without memory."""
        inputs = critic.inputs(seen).to(self.settings.device)
        rows = inputs.view(-1, network.inputs)
        # Cuts come in every size: buffers kept for each would add up.
        fresh = isinstance(seen, Cut)
        workspace = network.workspace(len(rows)) if fresh else self._workspace(critic.name, network, len(rows))
        values = network.forward(rows, workspace)
        leading = inputs.shape[: -1 if critic.group is None else -2]
        return values.t().reshape(*leading, -1)

    def _predict_in_order(
        self, critic: AnyPart, network: RecurrentNetwork, rollout: Rollout, values: Tensor, successors: Tensor
    ) -> None:
        """Fill in the values by a critic with memory, step by step."""
        inputs = critic.inputs(rollout).to(self.settings.device)
        agents = inputs.shape[2]
        memory = network.memory(inputs.shape[1] * agents)
        remembered = memory.view(inputs.shape[1], agents, -1)
        cuts = {cut.step: cut for cut in rollout.cuts}
        after_cuts = {}
        starts = torch.from_numpy(rollout.starts).to(memory.device)
        for t in range(len(inputs)):
            if t < len(starts):
                remembered[starts[t]] = 0
            values[t, :, critic.places] = network.step(inputs[t].flatten(0, 1), memory).view(-1, agents)
            if t in cuts:
                before = remembered[cuts[t].environments].flatten(0, 1)
                successor = critic.inputs(cuts[t]).to(memory.device).flatten(0, 1)
                after_cuts[t] = network.step(successor, before).view(-1, agents)
        successors[:, :, critic.places] = values[1:, :, critic.places]
        for t, predicted in after_cuts.items():
            self._replace(successors, critic, cuts[t], predicted)

    def _workspace(self, name: str, network: Network, rows: int) -> Workspace:
        if (name, rows) not in self._workspaces:
            with torch.inference_mode(False):  # ordinary tensors, to be used anywhere
                self._workspaces[name, rows] = network.workspace(rows, gradients=True)
        return self._workspaces[name, rows]

"""MAPPO and IPPO for several branches at once: gradient steps of ``marl.learners.ppo`` with a branch axis.

Every branch has its own weights, optimiser, value normaliser, rollout and minibatches; what it computes is what it
would compute alone. A branch that has gone far enough leaves the stack until the next update.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marl.learners.base import Diverged, Part
from marl.learners.distributions import Distribution, Taken
from marl.learners.policy import Policy
from marl.learners.ppo import APPROXIMATE_KL, PolicyGradientLearner
from marl.learners.rollout import Rollout
from marl.learners.stacked_networks import StackedNetwork, descend, whole_vectors

Metrics = dict[str, float | None]


class Apart:
    """A distribution that reads outputs of several branches one by one where together they would round differently."""

    def __init__(self, one: Distribution, branches: int) -> None:
        self.width, self._one, self._branches = one.width, one, branches

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """As the branches' own distribution."""
        if self._together(outputs):
            return self._one.sample(outputs, uniforms)
        pairs = zip(self._apart(outputs), uniforms.chunk(self._branches), strict=True)
        return torch.cat([self._one.sample(*pair) for pair in pairs])

    def taken(self, outputs: Tensor, actions: Tensor) -> Taken:
        """As the branches' own distribution."""
        if self._together(outputs):
            return self._one.taken(outputs, actions)
        pairs = zip(self._apart(outputs), actions.chunk(self._branches), strict=True)
        each = [self._one.taken(*pair) for pair in pairs]

        def gradient(pull: Tensor, push: Tensor | float) -> Tensor:
            pulls = pull.chunk(self._branches)
            return torch.cat([taken.gradient(one, push) for taken, one in zip(each, pulls, strict=True)], 1)

        return Taken(
            torch.cat([taken.log_probability for taken in each]), torch.cat([taken.entropy for taken in each]), gradient
        )

    def _apart(self, outputs: Tensor) -> list[Tensor]:
        """``[outputs, rows]`` of each branch, in memory of their own: a sum over strided columns is another sum."""
        return [part.contiguous() for part in outputs.chunk(self._branches, 1)]

    def _together(self, outputs: Tensor) -> bool:
        return whole_vectors(outputs, outputs.shape[1] // self._branches)


class StackedLearners:
    """Trains learners of one task and one configuration together. What it changes, it changes in them."""

    def __init__(self, learners: Sequence[PolicyGradientLearner]) -> None:
        """``learners`` are feed-forward."""
        self.learners = list(learners)
        self.settings, self.spec = learners[0].settings, learners[0].spec
        self._kept: dict[int, list[StackedNetwork]] = {}

    def policy(self) -> Policy:
        """The policies of all branches as one; its rows are branch after branch. Valid until the next update."""
        networks = self._load(self.learners)[: len(self.spec.groups)]
        return Policy(self.spec, networks, Apart(self.learners[0].policy.distribution, len(self.learners)))

    def update(
        self, rollouts: Sequence[Rollout], generators: Sequence[np.random.Generator]
    ) -> list[Metrics | Diverged]:
        """Several passes of clipped gradient steps of every learner over its own rollout; its metrics or its end."""
        with torch.inference_mode():
            return self._update(rollouts, generators)

    def _load(self, learners: Sequence[PolicyGradientLearner]) -> list[StackedNetwork]:
        """A stacked network per part, with the weights of ``learners``. Buffers are kept for every number of them."""
        parts = list(zip(*(learner.parts for learner in learners), strict=True))
        if len(learners) not in self._kept:
            with torch.inference_mode(False):
                self._kept[len(learners)] = [StackedNetwork([part.network for part in same]) for same in parts]
        networks = self._kept[len(learners)]
        for network, same in zip(networks, parts, strict=True):
            network.load([part.network for part in same])
        return networks

    def _update(
        self, rollouts: Sequence[Rollout], generators: Sequence[np.random.Generator]
    ) -> list[Metrics | Diverged]:
        settings = self.settings
        prepared = [learner.prepare(rollout) for learner, rollout in zip(self.learners, rollouts, strict=True)]
        samples = len(prepared[0][0]["advantages"])
        bounds = [samples * k // settings.minibatches for k in range(settings.minibatches + 1)]
        shuffled = {
            name: column.new_empty(len(prepared), *column.shape) for name, column in prepared[0][0].items()
        }
        statistics: list[list[Tensor]] = [[] for _ in self.learners]
        active = list(range(len(self.learners)))
        networks = self._load(self.learners)
        for _ in range(settings.epochs):
            for slot, index in enumerate(active):
                order = torch.from_numpy(generators[index].permutation(samples)).to(settings.device)
                for name, column in prepared[index][0].items():
                    torch.index_select(column, 0, order, out=shuffled[name][slot])
            for first, last in zip(bounds[:-1], bounds[1:], strict=True):
                batch = {name: column[: len(active), first:last] for name, column in shuffled.items()}
                rows = self._gradient_step(networks, [self.learners[index].parts for index in active], batch)
                for index, row in zip(active, rows.unbind(), strict=True):
                    statistics[index].append(row)
                if settings.largest_kl is None:
                    continue
                near = [not kl > settings.largest_kl for kl in rows[:, APPROXIMATE_KL].tolist()]
                if all(near):
                    continue
                # What is left of this pass moves up into the slots that become free.
                _unload(networks)
                for slot, left in enumerate(np.flatnonzero(near)):
                    for column in shuffled.values():
                        column[slot] = column[left]
                active = [index for index, goes_on in zip(active, near, strict=True) if goes_on]
                if not active:
                    break
                networks = self._load([self.learners[index] for index in active])
            if not active:
                break
        if active:
            _unload(networks)
        return [
            _outcome(learner, rows, explained)
            for learner, rows, (_, explained) in zip(self.learners, statistics, prepared, strict=True)
        ]

    def _gradient_step(
        self, networks: Sequence[StackedNetwork], parts: Sequence[Sequence[Part]], batch: dict[str, Tensor]
    ) -> Tensor:
        """One Adam step of every network on ``batch``, whose columns are ``[B, rows, ...]``; statistics ``[B, 6]``."""
        settings, branches, norms = self.settings, len(parts), self.settings.max_gradient_norm
        actor_statistics = torch.zeros(5, branches, device=settings.device)
        critic_losses = []
        actors = len(self.spec.groups)
        for place, (network, same) in enumerate(zip(networks, zip(*parts, strict=True), strict=True)):
            part = same[0]
            inputs = batch[part.sees].flatten(1, -2)
            workspace = network.kept_workspace(branches * inputs.shape[1])
            outputs = network.forward(inputs, workspace)
            learn = self._policy_gradient if place < actors else self._value_gradient
            gradient, found = learn(part, outputs, batch, branches)
            network.backward(inputs, workspace, gradient)
            sizes = descend(network, same, norms)
            if place < actors:
                weight = len(self.spec.groups[part.group].agents) / self.spec.agents
                actor_statistics += weight * torch.cat([found, sizes[None]])
            else:
                critic_losses.append(found)
        return torch.cat([actor_statistics, torch.stack(critic_losses).mean(0)[None]]).t().contiguous()

    def _policy_gradient(
        self, part: Part, outputs: Tensor, batch: dict[str, Tensor], branches: int
    ) -> tuple[Tensor, Tensor]:
        """``marl.learners.ppo.policy_gradient`` of every branch: gradient ``[outputs, B * rows]``, ``[4, B]``."""
        clip = self.settings.clip
        actions, old, advantages = (_rows(part, batch[name]) for name in ("actions", "log_probabilities", "advantages"))
        taken = Apart(self.learners[0].policy.distribution, branches).taken(outputs, actions)
        log_ratio = taken.log_probability - old
        ratio = log_ratio.exp()
        unclipped = ratio * advantages
        ceiling = advantages.add(advantages.abs(), alpha=clip)
        change = ratio - 1
        terms = [torch.minimum(unclipped, ceiling).neg_(), taken.entropy, change - log_ratio, change.abs_() > clip]
        statistics = torch.stack(terms).view(4, branches, -1).mean(2)
        share = branches / len(log_ratio)
        pull = unclipped.masked_fill_(unclipped > ceiling, 0.0).mul_(-share)
        return taken.gradient(pull, -self.settings.entropy * share), statistics

    def _value_gradient(
        self, part: Part, values: Tensor, batch: dict[str, Tensor], branches: int
    ) -> tuple[Tensor, Tensor]:
        """``marl.learners.ppo.value_gradient`` of every branch: gradient ``[agents, B * rows]``, losses ``[B]``."""
        clip = self.settings.clip
        old, targets = (_rows(part, batch[name]).view(-1, len(values)).t() for name in ("predictions", "targets"))
        error = values - targets
        clipped_error = (values - old).clamp_(-clip, clip).add_(old).sub_(targets)
        square, clipped_square = error.square(), clipped_error.square_()
        gradient = error.masked_fill_(square < clipped_square, 0.0).div_(error.numel() // branches)
        losses = torch.maximum(square, clipped_square).view(len(values), branches, -1).transpose(0, 1)
        return gradient, losses.flatten(1).mean(1) / 2


def _rows(part: Part, column: Tensor) -> Tensor:
    """What ``column [B, rows, A, ...]`` holds of the agents that a network serves: a row per row of its outputs."""
    return column[:, :, part.places].flatten(0, 2)


def _unload(networks: Sequence[StackedNetwork]) -> None:
    for network in networks:
        network.unload()


def _outcome(
    learner: PolicyGradientLearner, statistics: Sequence[Tensor], explained: float | None
) -> Metrics | Diverged:
    """The metrics of an update, or that it diverged."""
    try:
        return learner.conclude(statistics, explained)
    except Diverged as error:
        return error

"""Replay: the last rollouts without their rewards, which are computed anew for every batch that is drawn.

What is kept of a transition is what happened: observations, states, actions, the task's sparse reward, who was there,
and *every* declared feature of both states. A shaping is a function of those features, so a batch always carries the
rewards of the shaping in force, whichever was in force when the transition was played. One state costs 4 bytes per
number of observations, joint state and features; it is stored once, as successor and as predecessor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.base import restore
from learning_signal.marl.learners.rollout import Cut, Rollout
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.shaping import Potential, shaping_rewards
from learning_signal.marl.tasks.base import TaskSpec

Features = dict[str, np.ndarray]


@dataclass(frozen=True)
class Moment:
    """``B`` states, as a learner sees them."""

    inputs: tuple[Tensor, ...]
    """``[B, A_g, O_g + A_g]`` per group: observations and agent identities."""
    states: Tensor
    """``[B, S]`` joint states."""
    alive: Tensor | None
    """``[B, A]`` bool: who acts; None where nobody leaves early."""
    allowed: Tensor | None
    """``[B, A, actions]`` bool: what each may do; None where nothing is ever forbidden."""
    features: Features
    """``[B]`` or ``[B, A]`` float32, every declared one."""

    def to(self, device: str) -> Moment:
        """The same with its tensors on ``device``."""
        inputs = tuple(one.to(device) for one in self.inputs)
        alive, allowed = (None if one is None else one.to(device) for one in (self.alive, self.allowed))
        return replace(self, inputs=inputs, states=self.states.to(device), alive=alive, allowed=allowed)


@dataclass(frozen=True)
class Batch:
    """``B`` transitions, drawn independently and uniformly."""

    before: Moment
    after: Moment
    """The true successors."""
    actions: Tensor
    """``[B, A]`` int64."""
    sparse_rewards: Tensor
    """``[B]``: the task's own."""
    rewards: Tensor
    """``[B]``: the team's, with shaping (see ``team_rewards``)."""
    terminated: Tensor
    """``[B]`` bool: true terminals, worth 0."""
    truncated: Tensor
    """``[B]`` bool: the time limit cut the episode after this transition."""

    def to(self, device: str) -> Batch:
        """The same with its tensors on ``device``."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def team_rewards(
    sparse_rewards: np.ndarray,
    features: Features,
    successor_features: Features,
    terminated: np.ndarray,
    potential: Potential | None,
    env_steps: int,
    discount: float,
) -> np.ndarray:
    """The team's rewards ``[B]``: the sparse ones plus the mean over agents of the shaping rewards.

    All transitions get the same strength, that of the position ``env_steps`` of the run:
    ``F = beta * (gamma * Phi(s') - Phi(s))``, ``Phi(terminal) = 0``. However old they are, the rewards along a
    trajectory then telescope to ``-beta * Phi(s_0)``: with respect to annealing the replay is always in the present.
    A term of scope ``agent`` counts with its mean, because a joint value has one reward only.
    """
    if potential is None:
        return sparse_rewards
    beta = np.array([potential.config.beta_at(env_steps)])
    shaping = shaping_rewards(
        potential.total(features)[None],
        potential.total(successor_features)[None],
        beta,
        beta,
        terminated[None],
        discount,
    )
    return sparse_rewards + shaping[0].mean(axis=1)


class Replay:
    """A ring of whole rollouts, ``slots`` of them; the oldest is overwritten.

    States are ``[slots, T + 1, E, ...]``, so that the successor of entry ``t`` is entry ``t + 1``, except where a time
    limit cut an episode inside a rollout: those few successors are kept beside the ring.
    """

    def __init__(self, spec: TaskSpec, settings: LearnerSettings) -> None:
        """Nothing is stored yet; the memory is touched as it fills."""
        self.spec, self.discount = spec, settings.discount
        steps, self.environments = settings.rollout_steps or spec.horizon, settings.environments
        self.rollout_size = steps * self.environments
        self.slots = max(settings.q_learning.replay_env_steps // self.rollout_size, 1)
        self.added = 0
        """Rollouts that were ever added."""

        per_state: dict[str, tuple[int, ...]] = {
            f"observations_{k}": (len(one.agents), one.observation_size) for k, one in enumerate(spec.groups)
        }
        per_state["states"] = (spec.state_size,)
        if spec.agents_leave:
            per_state["alive"] = (spec.agents,)
        if spec.masks_actions:
            per_state["allowed"] = (spec.agents, spec.actions)
        for feature in spec.features:
            per_state[f"feature_{feature.name}"] = () if feature.scope == "team" else (spec.agents,)
        states, transitions = (self.slots, steps + 1, self.environments), (self.slots, steps, self.environments)
        self._states = {name: _zeros((*states, *shape), np.float32) for name, shape in per_state.items()}
        self._transitions = {
            "actions": _zeros((*transitions, spec.agents), np.int16),
            "sparse_rewards": _zeros(transitions, np.float32),
            "terminated": _zeros(transitions, np.bool_),
            "truncated": _zeros(transitions, np.bool_),
        }
        # Row k of the cut states is the true successor of transition cut_transitions[k].
        self._cut_transitions = torch.zeros(0, dtype=torch.int64)
        self._cut_states = {name: torch.zeros(0, *shape) for name, shape in per_state.items()}
        self._cut_of = torch.full((self.slots * self.rollout_size,), -1)

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return min(self.added, self.slots) * self.rollout_size

    def add(self, rollout: Rollout) -> None:
        """Store ``rollout``, which must hold every declared feature, in place of the oldest."""
        slot = self.added % self.slots
        self.added += 1
        for name, values in self._states_of(rollout).items():
            self._states[name][slot] = values
        played = {
            "actions": rollout.actions,
            "sparse_rewards": torch.from_numpy(rollout.sparse_rewards),
            "terminated": torch.from_numpy(rollout.terminated),
            "truncated": torch.from_numpy(rollout.truncated),
        }
        for name, values in played.items():
            self._transitions[name][slot] = values
        self._replace_cuts(slot, rollout.cuts)

    def _replace_cuts(self, slot: int, cuts: list[Cut]) -> None:
        """Forget the cuts of the rollout that was in ``slot`` and add ``cuts``."""
        first = slot * self.rollout_size
        kept = (self._cut_transitions < first) | (self._cut_transitions >= first + self.rollout_size)
        new = [torch.from_numpy(first + cut.step * self.environments + cut.environments) for cut in cuts]
        self._cut_transitions = torch.cat([self._cut_transitions[kept], *new])
        states = [self._states_of(cut) for cut in cuts]
        for name, values in self._cut_states.items():
            self._cut_states[name] = torch.cat([values[kept], *(one[name] for one in states)])
        self._index_cuts()

    def _index_cuts(self) -> None:
        self._cut_of.fill_(-1)
        self._cut_of[self._cut_transitions] = torch.arange(len(self._cut_transitions))

    def _states_of(self, seen: Rollout | Cut) -> dict[str, Tensor]:
        """What is stored of the states in ``seen``: agent identities are not, they are always the same."""
        observations = {
            f"observations_{index}": inputs[..., : group.observation_size]
            for index, (inputs, group) in enumerate(zip(seen.inputs, self.spec.groups, strict=True))
        }
        features = {f"feature_{one.name}": torch.from_numpy(seen.features[one.name]) for one in self.spec.features}
        told = {"alive": seen.alive, "allowed": seen.allowed}
        marks = {name: torch.from_numpy(values) for name, values in told.items() if values is not None}
        return observations | {"states": seen.states} | marks | features

    def draw(self, count: int, generator: np.random.Generator, potential: Potential | None, env_steps: int) -> Batch:
        """``count`` transitions with their rewards under ``potential`` at position ``env_steps`` of the run."""
        drawn = torch.from_numpy(generator.integers(len(self), size=count))
        # A rollout has one row of states more than of transitions.
        rows = drawn + drawn // self.rollout_size * self.environments
        before, after = self._states_at(rows), self._states_at(rows + self.environments)
        cut = self._cut_of[drawn]
        where = (cut >= 0).nonzero()[:, 0]
        if len(where):
            for name, values in after.items():
                values[where] = self._cut_states[name][cut[where]]
        played = {name: values.flatten(0, 2).index_select(0, drawn) for name, values in self._transitions.items()}
        moments = self._moment(before), self._moment(after)
        rewards = team_rewards(
            played["sparse_rewards"].numpy(),
            moments[0].features,
            moments[1].features,
            played["terminated"].numpy(),
            potential,
            env_steps,
            self.discount,
        )
        return Batch(
            *moments,
            actions=played["actions"].to(torch.int64),
            sparse_rewards=played["sparse_rewards"],
            rewards=torch.from_numpy(rewards),
            terminated=played["terminated"],
            truncated=played["truncated"],
        )

    def _states_at(self, rows: Tensor) -> dict[str, Tensor]:
        return {name: values.flatten(0, 2).index_select(0, rows) for name, values in self._states.items()}

    def _moment(self, states: Mapping[str, Tensor]) -> Moment:
        inputs = []
        for index, group in enumerate(self.spec.groups):
            observations = states[f"observations_{index}"]
            identities = torch.eye(len(group.agents)).expand(len(observations), -1, -1)
            inputs.append(torch.cat([observations, identities], dim=2))
        features = {one.name: states[f"feature_{one.name}"].numpy() for one in self.spec.features}
        alive = states["alive"] > 0 if self.spec.agents_leave else None
        allowed = states["allowed"] > 0 if self.spec.masks_actions else None
        return Moment(tuple(inputs), states["states"], alive, allowed, features)

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores: a copy of the filled part of the buffers."""
        stored = self._tensors(self.added)
        stored |= {f"replay_cut_{name}": values for name, values in self._cut_states.items()}
        stored["replay_cut_transitions"] = self._cut_transitions
        return {name: values.clone() for name, values in stored.items()} | {"replay_added": self.added}

    def load(self, stored: Mapping[str, Any]) -> None:
        """Continue from ``stored`` (see ``state``); ``ValueError``, and nothing is changed, if it does not fit."""
        added = stored.get("replay_added", 0)
        restore(self._tensors(added), stored)
        self.added = added
        self._cut_transitions = stored["replay_cut_transitions"].clone()
        self._cut_states = {name: stored[f"replay_cut_{name}"].clone() for name in self._cut_states}
        self._index_cuts()

    def _tensors(self, added: int) -> dict[str, Tensor]:
        """The part of the ring that ``added`` rollouts fill."""
        columns = self._states | self._transitions
        return {f"replay_{name}": values[: min(added, self.slots)] for name, values in columns.items()}


def _zeros(shape: tuple[int, ...], kind: type[np.generic]) -> Tensor:
    """Zeros that take no memory until they are written to, as those of torch do."""
    return torch.from_numpy(np.zeros(shape, kind))

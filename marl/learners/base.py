"""What every learner is: a policy that acts, an update that changes it, and a state that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from learning_signal.marl.learners.networks import Adam, Network
from learning_signal.marl.learners.policy import Choose, Policy
from learning_signal.marl.learners.recurrent import RecurrentNetwork
from learning_signal.marl.learners.rollout import Rollout
from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.tasks.base import TaskSpec


class Diverged(RuntimeError):
    """A loss, a metric or a weight is no longer finite."""


class Learner(Protocol):
    """Made by ``marl.learners.make_learner``; all that it draws comes from its seed or the generators given to it."""

    spec: TaskSpec
    settings: LearnerSettings
    policy: Policy
    """What acts, and what is evaluated."""
    keeps: tuple[str, ...]
    """Features that the learner needs in every rollout, in addition to those of the shaping."""

    def behaviour(self, env_steps: int) -> Choose:
        """How actions of a training rollout are chosen at this position of the run."""
        ...

    def update(self, rollout: Rollout, generator: np.random.Generator) -> dict[str, float | None]:
        """Learn from ``rollout``; returns the part of ``METRICS`` it can tell.

        ``generator`` draws minibatches. ``Diverged`` if anything is no longer finite.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores: copies of everything that training changes, on the CPU."""
        ...

    def load(self, stored: Mapping[str, Any]) -> None:
        """Continue from ``stored`` (see ``state``); ``ValueError`` if it belongs to another learner."""
        ...


class Seen(Protocol):
    """States as networks see them, such as those of a rollout."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """``[..., A_g, O_g + A_g]`` per group: what actors see."""
        ...

    @property
    def states(self) -> Tensor:
        """``[..., S]``: the joint states."""
        ...


SomeNetwork = TypeVar("SomeNetwork", bound=Network | RecurrentNetwork, covariant=True)


@dataclass(frozen=True)
class Part(Generic[SomeNetwork]):
    """One network of a learner with its optimiser: what it sees, and for whom its outputs are."""

    name: str
    network: SomeNetwork
    optimiser: Adam
    group: int | None
    """The group whose inputs it sees; None for the joint state."""
    places: slice | list[int]
    """Where the agents it serves are on the agent axis."""

    @property
    def sees(self) -> str:
        """A name for what it sees, the same for all parts that see the same."""
        return "states" if self.group is None else f"inputs_{self.group}"

    def inputs(self, seen: Seen) -> Tensor:
        """What it sees: ``[..., S]``, or ``[..., A_g, O_g + A_g]``."""
        return seen.states if self.group is None else seen.inputs[self.group]

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments by name; the tensors themselves, not copies."""
        return {
            self.name: self.network.parameters,
            f"{self.name}_first_moment": self.optimiser.first_moment,
            f"{self.name}_second_moment": self.optimiser.second_moment,
        }

    def descend(self, largest_norm: float) -> Tensor:
        """One optimiser step on the network's gradient, scaled down to ``largest_norm``; its norm before."""
        norm = torch.linalg.vector_norm(self.network.gradient)
        size = float(norm)
        self.optimiser.step(largest_norm / size if size > largest_norm else 1.0)
        return norm


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of ``tensors`` on the CPU, for a checkpoint."""
    return {name: tensor.cpu().clone() for name, tensor in tensors.items()}


def restore(tensors: Mapping[str, Tensor], stored: Mapping[str, Any]) -> None:
    """Fill ``tensors`` from ``stored``; ``ValueError``, and nothing is changed, where a shape differs."""
    for name, tensor in tensors.items():
        if name not in stored or stored[name].shape != tensor.shape:
            found = tuple(stored[name].shape) if name in stored else "nothing"
            raise ValueError(
                f"The checkpoint holds {found} for {name!r} where this learner has {tuple(tensor.shape)}; "
                "use the task, algorithm, memory and hidden layers it was trained with."
            )
    for name, tensor in tensors.items():
        tensor.copy_(stored[name])


def refuse_divergence(metrics: Mapping[str, float | None], tensors: Mapping[str, Tensor]) -> None:
    """``Diverged`` where a metric or a tensor is not finite."""
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            raise Diverged(f"{name.replace('_', ' ')} became {'NaN' if math.isnan(value) else 'infinite'}")
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise Diverged(f"{name.replace('_', ' ')} weights became NaN or infinite")

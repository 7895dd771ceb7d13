"""What a task is: a batched cooperative environment with a sparse reward, declared features and progress.

Axes everywhere: ``E`` parallel environments, ``A`` agents, ``O`` observation size, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Feature:
    """A named, bounded quantity of the state that shaping may use.

    ``scope`` is ``"team"`` (one value per environment, ``[E]``) or ``"agent"`` (one per agent, ``[E, A]``).
    ``direction`` says whether higher or lower values are better for the task, or ``None`` where neither is.
    ``low`` and ``high`` bound every value the task can produce.
    """

    name: str
    description: str
    scope: Literal["team", "agent"]
    low: float
    high: float
    direction: Literal["higher", "lower"] | None


@dataclass(frozen=True)
class TaskSpec:
    """The declaration of a task: sizes, words for the agents, features, and the scale of its sparse return."""

    name: str
    description: str
    sparse_reward: str
    agents: int
    observation_size: int
    state_size: int
    actions: int
    action_names: tuple[str, ...]
    idle_action: int | None
    horizon: int
    max_return: float
    """Upper bound of the sparse return of one episode; gate thresholds are fractions of it."""
    features: tuple[Feature, ...]
    progress: str | None
    """What ``progress`` measures, in one sentence, or ``None`` where the task declares no progress."""

    def feature(self, name: str) -> Feature:
        """The feature called ``name``; ``KeyError`` if the task declares none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)


class Step(NamedTuple):
    """The result of one joint transition of every environment."""

    observations: np.ndarray
    """``[E, A, O]`` float32, of the true successor state (before any reset)."""
    reward: np.ndarray
    """``[E]`` float32: the sparse team reward, unshaped."""
    terminated: np.ndarray
    """``[E]`` bool: the episode reached a true terminal state."""
    truncated: np.ndarray
    """``[E]`` bool: the time limit cut the episode (never set together with ``terminated``)."""


class Task(Protocol):
    """A batch of ``environments`` copies of one task, stepped together in NumPy.

    An episode is a pure function of its seed and the joint actions: two environments given the same seed and
    the same actions go through the same states, whatever else is in the batch. ``step`` never resets: the caller
    reads ``state``, ``features`` and ``progress`` of the true successor first, then resets those that ended.
    """

    spec: TaskSpec
    environments: int

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes and return observations ``[E, A, O]`` of the whole batch.

        ``seeds`` is ``[E]`` uint64; ``where`` is ``[E]`` bool (all environments when ``None``). Environments
        outside ``where`` are left as they are and their seeds are ignored.
        """
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` (int64, each in ``0 .. actions - 1``) to every environment."""
        ...

    def state(self) -> np.ndarray:
        """The joint state ``[E, S]`` float32 of every environment (input of a centralised critic)."""
        ...

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Features of the current states: ``[E]`` (team) or ``[E, A]`` (agent), float32.

        Every declared one, or at least those in ``names``: shaping reads one or two of them at every step.
        """
        ...

    def progress(self) -> np.ndarray | None:
        """Progress ``[E]`` in [0, 1] of the current states, or ``None`` where the task declares none."""
        ...

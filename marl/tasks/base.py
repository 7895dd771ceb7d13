"""What a task is: a batched cooperative environment with a sparse reward, declared features and progress.

Axes everywhere: ``E`` parallel environments, ``A`` agents, ``O`` observation size, ``S`` state size, ``D`` size of a
continuous action.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np

from learning_signal.marl.tasks.picture import Picture


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
class Group:
    """Agents that share one policy because they see and do the same kind of things."""

    name: str
    agents: tuple[int, ...]
    """Their places on the agent axis."""
    observation_size: int
    """How much of an observation row is theirs; the rest of the row is 0."""
    actions: int
    """Discrete: they take actions ``0 .. actions - 1``. Continuous: how much of an action row is read."""


@dataclass(frozen=True)
class TaskSpec:
    """The declaration of a task: sizes, words for the agents, features, and the scale of its sparse return."""

    name: str
    description: str
    sparse_reward: str
    agents: int
    observation_size: int
    """``O``: of the largest observation."""
    state_size: int
    actions: int
    """Discrete: the number of actions of the group that has most. Continuous: numbers in the longest action, ``D``."""
    action_names: tuple[str, ...]
    """One per action, or per number of a continuous action."""
    idle_action: int | None
    """The action that does nothing; None where there is none (always where actions are continuous)."""
    horizon: int
    max_return: float | None
    """Upper bound of the sparse return of one episode; gate thresholds are fractions of it. None where unknown."""
    features: tuple[Feature, ...]
    progress: str | None
    """What ``progress`` measures, in one sentence, or ``None`` where the task declares no progress."""
    continuous: bool = False
    """Whether actions are numbers in [-1, 1] (``[E, A, D]`` float32) instead of choices (``[E, A]`` int64)."""
    groups: tuple[Group, ...] = ()
    """Disjoint, covering every agent; one group of all agents where none are given."""
    agents_leave: bool = False
    """Whether an agent may leave before its episode ends; then ``Step.alive`` is set."""
    masks_actions: bool = False
    """Whether actions may be forbidden in some states; then the task is a `MaskedTask`. Discrete actions alone."""

    def __post_init__(self) -> None:
        if not self.groups:
            everyone = Group("agents", tuple(range(self.agents)), self.observation_size, self.actions)
            object.__setattr__(self, "groups", (everyone,))

    @property
    def largest_return(self) -> float:
        """``max_return`` of a task that has one; ``ValueError`` for the others, with which no session begins."""
        if self.max_return is None:
            raise ValueError(f"{self.name} declares no max_return, expected a number: the gate's thresholds need it.")
        return self.max_return

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
    alive: np.ndarray | None = None
    """``[E, A]`` bool: who acts at the next step; None where everybody does. What others are told to do is ignored."""


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
        """Apply joint actions to every environment.

        Discrete: ``[E, A]`` int64, each in ``0 .. actions - 1`` of its agent's group. Continuous: ``[E, A, D]``
        float32 in [-1, 1].
        """
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

    def heuristic(self) -> np.ndarray | None:
        """Joint actions of a scripted policy that sees the whole state and scores; None where there is none.

        A pure function of the current states: it tells a task that cannot be solved from one that is not solved yet.
        """
        ...

    def draw(self, environment: int) -> Picture:
        """What one environment looks like now."""
        ...


class MaskedTask(Task, Protocol):
    """A task that forbids actions in some states."""

    def allowed(self) -> np.ndarray:
        """What each agent may do in the current states, ``[E, A, actions]`` bool, at least one action of its group.

        Of an agent that acts no more, whatever its mask was, every action of its group.
        """
        ...


@dataclass(frozen=True)
class Ground:
    """Where the middle of an agent may be in the pictures of a task, in cells: a plane or a board."""

    columns: int
    rows: int
    cell: float
    """Side of a cell, in the coordinates of pictures; the first cell is at their origin."""
    plane: bool
    """Whether an agent may be anywhere in a cell (a plane), or in its middle only (a board)."""

    def middles(self) -> np.ndarray:
        """``[rows * columns, 2]``: x and y of the middle of every cell, row by row."""
        y, x = np.divmod(np.arange(self.rows * self.columns), self.columns)
        return (np.stack([x, y], axis=1) + 0.5) * self.cell


class GroundedTask(Task, Protocol):
    """A task whose agents are somewhere in its pictures."""

    ground: Ground

    def places(self, agent: int) -> np.ndarray:
        """Where ``agent`` is in the pictures, ``[E, 2]``: x and y of its middle."""
        ...

    def features_at(
        self, agent: int, places: np.ndarray, names: Collection[str] | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """``features`` of the current states if ``agent`` were at ``places [E, 2]`` (x and y), and whether it can be.

        All else is as it is, and stays so: neither states nor episodes change. Where the agent cannot be (``[E]`` bool)
        features are those of the current state.
        """
        ...


def allowed_actions(task: Task) -> np.ndarray | None:
    """`MaskedTask.allowed` of a task that forbids actions; None for the others."""
    return cast(MaskedTask, task).allowed() if task.spec.masks_actions else None


def declared_progress(task: Task) -> np.ndarray:
    """``progress`` of a task whose specification declares it."""
    progress = task.progress()
    assert progress is not None, f"{task.spec.name} declares progress"
    return progress

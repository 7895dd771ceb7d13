"""Any PettingZoo ``ParallelEnv`` as a task: a batch of copies of it, and its declaration.

An episode is a function of its seed and the joint actions if the environment's is: the command ``check-env NAME``
tells. Agents that leave early see zeros, and the others continue; rewards are summed over the agents that got one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from learning_signal.marl.errors import EnvironmentRefused
from learning_signal.marl.tasks.base import Feature, Step, TaskSpec
from learning_signal.marl.tasks.clock import starting
from learning_signal.marl.tasks.foreign.batch import Batch
from learning_signal.marl.tasks.foreign.declaration import Source, load, meaning
from learning_signal.marl.tasks.foreign.layout import COMPONENT_CAP, Layout
from learning_signal.marl.tasks.foreign.member import Member
from learning_signal.marl.tasks.foreign.stepping import Workers, worth
from learning_signal.marl.tasks.picture import Picture

MOST_COMPONENT_FEATURES = 200
"""The most observation components that become features where none are declared; a longer list is not readable."""


class Foreign:
    """``environments`` copies of the environment that ``name`` leads to (a `Task`); see ``declaration``.

    ``workers`` processes step them: 1 is this one, None measures what pays. Results are the same bit for bit.
    Raises what ``load`` raises, ``EnvironmentRefused`` for an environment that cannot be a task, and at any time
    ``EnvironmentFailed`` where its code fails.
    """

    def __init__(self, environments: int, name: str, workers: int | None = None) -> None:
        source = load(name)
        if environments < 1:
            raise ValueError(
                f"{source.name} got environments={environments}, expected at least 1: ask for one or more."
            )
        if workers is not None and not 1 <= workers <= environments:
            raise ValueError(
                f"{source.name} got workers={workers}, expected 1 to {environments}: at most one per environment."
            )
        first = Member(source)
        self.environments = environments
        self.spec = _specification(source, first.layout)
        self.workers = worth(first, environments) if workers is None else workers
        if self.workers == 1:
            self._copies: Batch | Workers = Batch(source, environments, first)
        else:
            first.close()
            self._copies = Workers(source, environments, self.workers)
        self._heuristic = source.task.heuristic is not None
        self._alive = np.zeros((environments, self.spec.agents), bool)
        self._ended = np.ones(environments, bool)
        self._allowed: np.ndarray | None = None
        """What ``allowed`` gave in the current states; None where it was not asked."""
        counts = np.zeros(self.spec.agents, np.int64)
        for group in self.spec.groups:
            counts[list(group.agents)] = group.actions
        self._counts = counts
        """``[A]``: how many actions an agent chooses from, or how many numbers are read."""

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        """Start episodes where ``where [E]`` says (everywhere if None); observations ``[E, A, O]`` of all."""
        seeds = np.asarray(seeds)
        started = starting(self.spec.name, self.environments, seeds, where)
        self._ended |= started  # until they have started
        self._allowed = None
        observations = self._copies.reset(seeds, started)
        self._alive[started], self._ended[started] = True, False
        return observations

    def step(self, actions: np.ndarray) -> Step:
        """Apply joint actions ``[E, A]`` or ``[E, A, D]``; ``alive`` is always given.

        Raises ``ValueError`` for actions of a wrong shape, type or range, ``RuntimeError`` when some episode
        has ended and was not reset.
        """
        self._check(actions)
        self._allowed = None
        step = self._copies.step(actions)
        assert step.alive is not None, "copies always tell"
        self._alive, self._ended = step.alive.copy(), step.terminated | step.truncated
        return step

    def state(self) -> np.ndarray:
        """``[E, S]`` float32: the environment's own (unless it is a large image), else all observations in a row."""
        return self._copies.state()

    def allowed(self) -> np.ndarray:
        """See `MaskedTask`."""
        if self._allowed is None:
            self._allowed = self._copies.allowed()
        return self._allowed

    def features(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The features in ``names`` (every declared one when None), float32: team ``[E]``, agent ``[E, A]``."""
        return self._copies.features([feature.name for feature in self.spec.features] if names is None else names)

    def progress(self) -> np.ndarray | None:
        """The declared progress ``[E]`` float32; None without one."""
        return None if self.spec.progress is None else self._copies.progress()

    def heuristic(self) -> np.ndarray | None:
        """Joint actions of the declared scripted policy; None without one."""
        return self._copies.heuristic() if self._heuristic else None

    def draw(self, environment: int) -> Picture:
        """The declared drawing, the environment's rendering, or else a chart of the agents' observations."""
        return self._copies.draw(environment)

    def close(self) -> None:
        """Close the copies and stop the worker processes."""
        self._copies.close()

    def _check(self, actions: np.ndarray) -> None:
        name, continuous = self.spec.name, self.spec.continuous
        shape = (self.environments, self.spec.agents) + ((self.spec.actions,) if continuous else ())
        if actions.shape != shape or actions.dtype.kind not in ("f" if continuous else "iu"):
            raise ValueError(
                f"{name}.step got actions of shape {actions.shape} and type {actions.dtype}, "
                f"expected {'floats' if continuous else 'integers'} of shape {shape}."
            )
        if self._ended.any():
            raise RuntimeError(f"{name}.step was called on an ended episode: reset those that ended first.")
        if continuous:
            read = self._alive[:, :, None] & (np.arange(self.spec.actions) < self._counts[:, None])
            if not (np.abs(actions, where=read, out=np.zeros(shape, actions.dtype)) <= 1.0).all():
                low, high = actions[read].min(), actions[read].max()
                raise ValueError(f"{name}.step got actions from {low:g} to {high:g}, expected -1 to 1.")
        elif (self._alive & ((actions < 0) | (actions >= self._counts))).any():
            environment, agent = np.argwhere(self._alive & ((actions < 0) | (actions >= self._counts)))[0]
            raise ValueError(
                f"{name}.step got action {actions[environment, agent]} for agent {agent}, "
                f"expected 0 to {self._counts[agent] - 1}."
            )
        elif self.spec.masks_actions:
            right = np.take_along_axis(self.allowed(), actions[:, :, None], axis=2)[:, :, 0] | ~self._alive
            if not right.all():
                environment, agent = np.argwhere(~right)[0]
                raise ValueError(
                    f"{name}.step got action {actions[environment, agent]} for agent {agent}, which its mask forbids, "
                    f"expected one of {np.flatnonzero(self.allowed()[environment, agent]).tolist()}."
                )


def _specification(source: Source, layout: Layout) -> TaskSpec:
    """The declaration of the task: the user's, completed from its spaces."""
    task, kind = source.task, "number" if layout.continuous else "action"
    names = task.action_names or tuple(f"{kind}_{index}" for index in range(layout.actions))
    if len(names) != layout.actions:
        raise EnvironmentRefused(
            f"{source.name} declares {len(names)} action names, expected {layout.actions}: give one per {kind}."
        )
    if task.idle_action is not None and (layout.continuous or not 0 <= task.idle_action < layout.actions):
        raise EnvironmentRefused(
            f"{source.name} declares the idle action {task.idle_action}, expected "
            f"{'none for continuous actions' if layout.continuous else f'0 to {layout.actions - 1}'}: correct it."
        )
    features = tuple(task.features) or _component_features(layout)
    described = task.description or f"The PettingZoo environment {source.name}: {_crew(layout)}, not described further."
    if not task.features:
        described += (
            " Its features are the numbers that the agents see; what they mean was not declared."
            if features
            else " It has no features: none are declared, and its agents see too many numbers to list."
        )
    return TaskSpec(
        name=source.name,
        description=described,
        sparse_reward=meaning(task.sparse_reward)
        if task.sparse_reward
        else "the environment's own rewards of the step, summed over the agents",
        agents=len(layout.agents),
        observation_size=layout.observation_size,
        state_size=layout.state_size,
        actions=layout.actions,
        action_names=names,
        idle_action=task.idle_action,
        horizon=layout.horizon,
        max_return=task.max_return,
        features=features,
        progress=meaning(task.progress) if task.progress else None,
        continuous=layout.continuous,
        groups=layout.groups,
        agents_leave=True,
        masks_actions=layout.masked,
    )


def _crew(layout: Layout) -> str:
    """The agents in words: ``4 agents (3 adversary, 1 agent)``."""
    counts = Counter(name for group in layout.groups for name in [group.name] * len(group.agents))
    total = f"{len(layout.agents)} agents"
    if len(counts) == 1:
        return total
    return f"{total} ({', '.join(f'{count} {name}' for name, count in counts.items())})"


def _component_features(layout: Layout) -> tuple[Feature, ...]:
    """Every number of the observations as an agent feature; none where there are too many to read."""
    if layout.observation_size > MOST_COMPONENT_FEATURES:
        return ()
    features = []
    for number, (low, high, capped) in enumerate(zip(*layout.component_bounds(), strict=True)):
        words = f"Number {number} of what the agent sees"
        if any(agent.size <= number for agent in layout.agents):
            words += " (0 for agents that see less)"
        if capped:
            words += f"; it counts at least {-COMPONENT_CAP:g} and at most {COMPONENT_CAP:g}"
        features.append(Feature(f"observation_{number}", f"{words}.", "agent", float(low), float(high), None))
    return tuple(features)

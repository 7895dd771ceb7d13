"""What agents did, from a ``BehaviourRecord``: shares of choices or moments of numbers, and runs of actions."""

from __future__ import annotations

from itertools import combinations, groupby

import numpy as np

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import TaskSpec

PARTS = 4
"""An episode's continuous actions are shown as means over so many equal parts."""


class ActionSummary(Frozen):
    """What the agents did while they were there: one entry per agent, None for one that never acted."""

    shares: tuple[dict[str, float] | None, ...] | None
    """Share of steps per action name; None where actions are numbers."""
    numbers: tuple[dict[str, tuple[float, float]] | None, ...] | None
    """Mean and standard deviation per number of a continuous action; None where actions are choices."""
    idle: tuple[float | None, ...] | None
    """Share of steps with the idle action; None where no agent has one."""
    oscillation: tuple[float | None, ...] | None
    """Share of steps (from an agent's third on) that undo the one before: A, B, A. None where actions are numbers
    or nobody acted for so long.
    """
    role_difference: float | None
    """Mean pairwise Jensen-Shannon divergence (bits: 0 alike, 1 disjoint) of the action shares of agents that have
    the same actions, which are those of one group (Lin 1991); None where there is no such pair.
    """
    present: tuple[float, ...] | None
    """Share of its episodes' steps that each agent acted in; None where nobody leaves before the end."""


def action_names(spec: TaskSpec) -> list[tuple[str, ...]]:
    """Per agent, the names of the actions (or numbers) it has."""
    names: list[tuple[str, ...]] = [()] * spec.agents
    for group in spec.groups:
        for agent in group.agents:
            names[agent] = spec.action_names[: group.actions]
    return names


def summarize_actions(record: BehaviourRecord, spec: TaskSpec) -> ActionSummary:
    """The summary of the actions of all episodes."""
    acted, names, everyone = acted_in(record.actions), action_names(spec), range(spec.agents)
    present = acted.sum(axis=(0, 1)) / record.lengths.sum()
    leaving = tuple(present.tolist()) if (present < 1).any() else None
    if spec.continuous:
        moments = tuple(_moments(record.actions[:, :, i][acted[:, :, i]], names[i]) for i in everyone)
        return ActionSummary(
            shares=None, numbers=moments, idle=None, oscillation=None, role_difference=None, present=leaving
        )
    shares = tuple(_shares(record.actions[:, :, i][acted[:, :, i]], names[i]) for i in everyone)
    idle = None
    if spec.idle_action is not None:
        word = spec.action_names[spec.idle_action]
        idle = tuple(None if share is None else share.get(word) for share in shares)
    oscillation = tuple(_oscillation(record.actions[:, :, i], acted[:, :, i]) for i in everyone)
    pairs = [
        _divergence(list(one.values()), list(other.values()))
        for group in spec.groups
        for one, other in combinations([shares[i] for i in group.agents], 2)
        if one is not None and other is not None
    ]
    return ActionSummary(
        shares=shares,
        numbers=None,
        idle=idle,
        oscillation=None if set(oscillation) == {None} else oscillation,
        role_difference=float(np.mean(pairs)) if pairs else None,
        present=leaving,
    )


def action_runs(record: BehaviourRecord, spec: TaskSpec, episode: int) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Per agent, runs of (action name, steps in a row) in one episode, up to where the agent left."""
    runs = []
    for actions, names in zip(record.actions[:, episode].T, action_names(spec), strict=True):
        chosen = [names[action] for action in actions[actions >= 0]]
        runs.append(tuple((name, len(list(run))) for name, run in groupby(chosen)))
    return tuple(runs)


def action_means(
    record: BehaviourRecord, spec: TaskSpec, episode: int
) -> tuple[dict[str, tuple[float, ...]] | None, ...]:
    """Per agent, the mean of each number in up to ``PARTS`` equal parts of its time in one episode."""
    actions, acted, means = record.actions[:, episode], acted_in(record.actions[:, episode]), []
    for agent, names in enumerate(action_names(spec)):
        rows = actions[acted[:, agent], agent, : len(names)].astype(np.float64)
        parts = [part.mean(axis=0) for part in np.array_split(rows, min(PARTS, len(rows)))] if len(rows) else []
        means.append({name: tuple(float(part[k]) for part in parts) for k, name in enumerate(names)} if parts else None)
    return tuple(means)


def acted_in(actions: np.ndarray) -> np.ndarray:
    """Which actions were taken: ``[..., A]`` bool of choices ``[..., A]`` or numbers ``[..., A, D]``."""
    return actions >= 0 if np.issubdtype(actions.dtype, np.integer) else ~np.isnan(actions).all(axis=-1)


def _moments(taken: np.ndarray, names: tuple[str, ...]) -> dict[str, tuple[float, float]] | None:
    if not len(taken):
        return None
    values = taken[:, : len(names)].astype(np.float64)
    return dict(zip(names, zip(values.mean(axis=0).tolist(), values.std(axis=0).tolist(), strict=True), strict=True))


def _shares(taken: np.ndarray, names: tuple[str, ...]) -> dict[str, float] | None:
    if not len(taken):
        return None
    return dict(zip(names, (np.bincount(taken, minlength=len(names)) / len(taken)).tolist(), strict=True))


def _oscillation(actions: np.ndarray, acted: np.ndarray) -> float | None:
    """Of one agent, ``[T, n]``."""
    if len(actions) < 3 or not acted[2:].any():
        return None
    first, second, third = (actions[i : len(actions) - 2 + i][acted[2:]] for i in range(3))
    return float(((third == first) & (third != second)).mean())


def _divergence(p: list[float], q: list[float]) -> float:
    """Jensen-Shannon divergence in bits."""
    from scipy import stats  # see marl/gate/statistics.py: a slow import

    middle = np.add(p, q) / 2
    return float((stats.entropy(p, middle, base=2) + stats.entropy(q, middle, base=2)) / 2)

"""One recorded episode as a course of events: its start, what led to each reward and what came of it, its end."""

from __future__ import annotations

from itertools import groupby
from typing import Literal

import numpy as np

from learning_signal.marl.behaviour.actions import acted_in, action_names
from learning_signal.marl.behaviour.summary import ranking
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import TaskSpec

Which = Literal["best", "median", "worst", "rewarded"]
LEAD = 3
"""Steps just before an event that are told one by one."""
MOST_RISES = 3
"""Rises of progress that are events where no reward is earned."""
LARGE_RISE = 0.5
"""A rise counts from this share of the episode's largest on."""

State = dict[str, tuple[float, ...]]
"""Values of every feature: one of a team feature, one per agent of the others."""


class Deeds(Frozen):
    """What one agent did in a stretch of steps."""

    runs: tuple[tuple[str, int], ...]
    """(action name, steps in a row); empty where actions are numbers, or the agent had left."""
    means: dict[str, float]
    """Mean of each number; empty where actions are choices."""


class Stretch(Frozen):
    """Steps ``first .. last``, with the deeds of every agent."""

    first: int
    last: int
    deeds: tuple[Deeds, ...]


class Event(Frozen):
    """A reward, which may last for several steps, or a rise of progress."""

    by: Literal["sparse reward", "progress"]
    first: int
    """The step that earned it."""
    last: int
    amount: float
    """Sum of the reward, or the rise."""
    before: tuple[Stretch, ...]
    """What came since the last event: first the steps up to ``LEAD`` before it, then these; without empty ones."""
    deeds: tuple[Deeds, ...]
    """Of step ``first``."""
    state: State
    """In which these actions were taken."""
    after: State
    """After step ``last``."""


class Episode(Frozen):
    """An episode from start to end."""

    episode: int
    sparse_return: float
    progress: float | None
    steps: int
    start: State
    events: tuple[Event, ...]
    rest: tuple[Stretch, ...]
    """After the last event; without empty ones."""
    end: State


def find_episode(record: BehaviourRecord, which: Which) -> int:
    """The index of the best, the median or the worst episode by sparse return (ties by progress), or a rewarded one.

    ``rewarded``: of those that earned any reward the median one. ``ValueError`` where none did.
    """
    order = ranking(record.sparse_returns, record.progress_means)
    if which == "rewarded":
        order = order[(np.nan_to_num(record.rewards) > 0).any(axis=0)[order]]
        if not len(order):
            raise ValueError(f"Found no reward in any of {record.rewards.shape[1]} episodes: ask for the best one.")
    place = {"best": 0, "worst": len(order) - 1}.get(which, len(order) // 2)
    return int(order[place])


def episode_of(record: BehaviourRecord, spec: TaskSpec, episode: int) -> Episode:
    """The course of events of one episode; ``ValueError`` for an index that the record has not."""
    if not 0 <= episode < len(record.lengths):
        raise ValueError(f"Found episode {episode}, expected one from 0 to {len(record.lengths) - 1}.")
    length, events, start = int(record.lengths[episode]), [], 0
    for by, first, last, amount in _moments(record, episode, length):
        lead = max(first - LEAD, start)
        events.append(
            Event(
                by=by,
                first=first,
                last=last,
                amount=amount,
                before=_stretches(record, spec, episode, (start, lead), (lead, first)),
                deeds=_deeds(record, spec, episode, first, first + 1),
                state=_state(record, episode, first),
                after=_state(record, episode, last + 1),
            )
        )
        start = last + 1
    means = None if spec.progress is None else record.progress_means
    return Episode(
        episode=episode,
        sparse_return=float(record.sparse_returns[episode]),
        progress=None if means is None else float(means[episode]),
        steps=length,
        start=_state(record, episode, 0),
        events=tuple(events),
        rest=_stretches(record, spec, episode, (start, length)),
        end=_state(record, episode, length),
    )


def _moments(
    record: BehaviourRecord, episode: int, length: int
) -> list[tuple[Literal["sparse reward", "progress"], int, int, float]]:
    """(kind, first step, last step, amount) of the events, in time."""
    rewards = np.nan_to_num(record.rewards[:length, episode].astype(np.float64))
    found: list[tuple[Literal["sparse reward", "progress"], int, int, float]] = []
    for sign, steps in groupby(range(length), lambda t: float(np.sign(rewards[t]))):
        run = list(steps)
        if sign:
            found.append(("sparse reward", run[0], run[-1], float(rewards[run].sum())))
    if found or record.progress is None:
        return found
    rises = np.diff(record.progress[: length + 1, episode].astype(np.float64))
    largest = np.argsort(-rises, kind="stable")[:MOST_RISES]
    least = max(LARGE_RISE * float(rises.max(initial=0.0)), 1e-6)
    return [("progress", int(t), int(t), float(rises[t])) for t in sorted(largest) if rises[t] >= least]


def _state(record: BehaviourRecord, episode: int, step: int) -> State:
    values = {name: np.atleast_1d(each[step, episode]) for name, each in record.features.items()}
    return {name: tuple(each.astype(np.float64).tolist()) for name, each in values.items()}


def _stretches(record: BehaviourRecord, spec: TaskSpec, episode: int, *bounds: tuple[int, int]) -> tuple[Stretch, ...]:
    return tuple(
        Stretch(first=first, last=end - 1, deeds=_deeds(record, spec, episode, first, end))
        for first, end in bounds
        if first < end
    )


def _deeds(record: BehaviourRecord, spec: TaskSpec, episode: int, first: int, end: int) -> tuple[Deeds, ...]:
    """Of every agent in steps ``first .. end - 1``."""
    found = []
    for agent, names in enumerate(action_names(spec)):
        taken = record.actions[first:end, episode, agent]
        taken = taken[acted_in(record.actions[first:end, episode])[:, agent]]
        if spec.continuous:
            means = taken[:, : len(names)].astype(np.float64).mean(axis=0).tolist() if len(taken) else []
            found.append(Deeds(runs=(), means=dict(zip(names, means, strict=False))))
        else:
            runs = tuple((names[action], len(list(run))) for action, run in groupby(taken.tolist()))
            found.append(Deeds(runs=runs, means={}))
    return tuple(found)

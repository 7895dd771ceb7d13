"""Features around the moments of success: just before, just after, and for how long they had been there.

What had long been at its best when a success came is an earlier part of the work than what came to it last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import TaskSpec

FEWEST_MOMENTS = 2
"""Fewer moments than this are no evidence."""
LARGE_RISE = 0.5
"""A rise of progress counts as a success from this share of the largest rise on."""
NEAR = 0.5
"""A feature is still where it was within so many of its standard deviations."""


class Successes(Frozen):
    """The moments that ``AtSuccess`` is about."""

    by: Literal["sparse reward", "progress"]
    """Steps that began to earn sparse reward; where there are too few of them, the largest rises of progress."""
    moments: int
    reward: float | None
    """Mean sparse reward of these steps; None for rises of progress."""


class AtSuccess(Frozen):
    """One feature at the moments of success; of an agent feature, the agent whose features change most there."""

    before: float
    """Mean in the state before the step."""
    after: float
    """Mean in the state after it."""
    held: float
    """Median of the steps for which it had been near its value of ``before``."""


@dataclass(frozen=True)
class Moments:
    """Where successes are in a record: step, episode and acting agent, ``[m]`` each."""

    summary: Successes
    steps: np.ndarray
    episodes: np.ndarray
    agents: np.ndarray

    def of(self, values: np.ndarray) -> AtSuccess:
        """A feature's values, ``[T + 1, n]`` or ``[T + 1, n, A]``, at these moments."""
        near, paths = NEAR * float(np.nanstd(values)), []
        for step, episode, agent in zip(self.steps, self.episodes, self.agents, strict=True):
            path = values[: step + 2, episode]
            paths.append(path if path.ndim == 1 else path[:, agent])
        held = [_held(path[:-1], near) for path in paths]
        return AtSuccess(
            before=float(np.mean([path[-2] for path in paths])),
            after=float(np.mean([path[-1] for path in paths])),
            held=float(np.median(held)),
        )


def moments_of_success(record: BehaviourRecord, spec: TaskSpec) -> Moments | None:
    """The successes of ``record``; None where there are fewer than ``FEWEST_MOMENTS``."""
    began, summary = began_to_earn(record), None
    if began.sum() >= FEWEST_MOMENTS:
        reward = float(record.rewards[began].mean())
        summary = Successes(by="sparse reward", moments=int(began.sum()), reward=reward)
    elif record.progress is not None:
        rises = np.nan_to_num(np.diff(record.progress, axis=0))
        began = rises >= max(LARGE_RISE * float(rises.max(initial=0.0)), 1e-6)
        if began.sum() >= FEWEST_MOMENTS:
            summary = Successes(by="progress", moments=int(began.sum()), reward=None)
    if summary is None:
        return None
    steps, episodes = np.nonzero(began)
    return Moments(summary, steps, episodes, _agents(record, spec, steps, episodes))


def began_to_earn(record: BehaviourRecord) -> np.ndarray:
    """The steps ``[T, n]`` bool that earned sparse reward after one that did not."""
    earned = np.nan_to_num(record.rewards) > 0
    return np.asarray(earned & ~np.concatenate([np.zeros_like(earned[:1]), earned[:-1]]))


def _agents(record: BehaviourRecord, spec: TaskSpec, steps: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """The agent ``[m]`` whose features change most, in their standard deviations; the first of equals."""
    change = np.zeros((len(steps), spec.agents))
    for feature in spec.features:
        values = np.asarray(record.features[feature.name], np.float64)
        if values.ndim == 3 and (deviation := np.nanstd(values)) > 0:
            change += np.nan_to_num(np.abs(values[steps + 1, episodes] - values[steps, episodes])) / deviation
    return change.argmax(axis=1)


def _held(path: np.ndarray, near: float) -> int:
    """For how many steps the last value of ``path`` has been held within ``near``; all of them where it never left."""
    elsewhere = np.flatnonzero(np.abs(path - path[-1]) > near)
    return len(path) - 1 - int(elsewhere[-1]) if len(elsewhere) else len(path)

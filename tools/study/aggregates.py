"""Aggregates over runs and tasks: interquartile mean, probability of improvement, and their bootstrap intervals.

Scores are float64 ``[R, M]``: R runs (seeds) of each of M tasks. Source of all three: Agarwal et al., "Deep
Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021; the numbers are those of its library,
`rliable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000

Scores = Sequence[Sequence[float]] | np.ndarray


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all runs of all tasks, ``[R, M]``; ``ValueError`` where one is missing."""
    ordered = np.sort(_checked(scores), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def probability_of_improvement(scores: Scores, others: Scores) -> float:
    """How likely a run ``[R, M]`` is above a run of the ``others`` ``[S, M]`` on the same task, averaged over tasks.

    A tie counts half: this is Mann and Whitney's U over ``R S``. ``ValueError`` where the tasks are not as many.
    """
    first, second = _paired(scores, others)
    above = first[:, None] > second[None]
    equal = first[:, None] == second[None]
    return float((above + 0.5 * equal).mean())


def interval_of(
    statistic: Callable[..., float], *samples: Scores, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """The stratified bootstrap percentile interval of ``statistic(*samples)``; None where a task has only one run.

    Runs are drawn with replacement within each task and each sample, never across. ``ValueError`` for a ``level``
    that is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, but a confidence level lies between 0 and 1: use for example 0.95")
    arrays = [_checked(sample) for sample in samples]
    if any(len(array) < 2 for array in arrays):
        return None
    rng = np.random.default_rng(seed)
    drawn = [statistic(*(_resample(array, rng) for array in arrays)) for _ in range(resamples)]
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _resample(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many runs of each task, drawn with replacement."""
    return np.take_along_axis(scores, rng.integers(len(scores), size=scores.shape), axis=0)


def _paired(scores: Scores, others: Scores) -> tuple[np.ndarray, np.ndarray]:
    first, second = _checked(scores), _checked(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first.shape[1]} and {second.shape[1]} tasks were given, but runs are compared task by task: give the "
            "same tasks in the same order"
        )
    return first, second


def _checked(scores: Scores) -> np.ndarray:
    """``scores`` as float64 ``[R, M]`` with at least one run and task, all finite; ``ValueError`` otherwise."""
    try:
        array = np.asarray(scores, np.float64)
    except (TypeError, ValueError):
        array = np.full((1, 1), np.nan)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError("scores are runs by tasks with no value missing: leave out what has no number")
    return array

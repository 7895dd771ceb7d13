"""What one branch scored, and when a group of branches cannot be compared or is below the competence floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeGuard, TypeVar

import numpy as np
from pydantic import BeforeValidator

from learning_signal.marl.settings import Frozen

MeasureName = Annotated[
    Literal["sparse_return", "progress"],
    BeforeValidator(lambda name: "_".join(name.split()) if isinstance(name, str) else name),
]
"""What is judged. Ledgers of version 0.1 spell it ``sparse return``."""
Values = Sequence[float | None]


class Measure(Frozen):
    """What one branch scored: its means over the later half of its evaluations on one set of episodes."""

    sparse_return: float | None
    """Mean sparse return, or ``None`` where the branch failed."""
    progress: float | None
    """Mean progress, or ``None`` where the task declares none or the branch failed."""
    succeeded: float | None = None
    """Share of episodes with a sparse return above 0; ``None`` where the branch failed, or none was recorded."""
    error: float | None = None
    """Standard error of the mean sparse return over episodes; ``None`` likewise."""


class Placed(Protocol):
    """Where an evaluation stands among those of its segment."""

    @property
    def env_steps(self) -> int:
        """Position of the run."""

    @property
    def points(self) -> int | None:
        """Points of its segment; None where every set was played at each of them."""


class Evaluated(Placed, Protocol):
    """The part of an evaluation that is measured here."""

    @property
    def sparse_returns(self) -> Sequence[float]:
        """Per episode."""

    @property
    def progress(self) -> Sequence[float] | None:
        """Per episode; None where the task declares none."""


Evaluation = TypeVar("Evaluation", bound=Placed)


def later_half(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those at the later half (rounded up) of a branch's points, in their order: what it is measured by."""
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.env_steps)
    points = next((one.points for one in ordered if one.points is not None), len(ordered))
    return ordered[-(points - points // 2) :]


def later_half_mean(evaluations: Sequence[Evaluated]) -> Measure:
    """The measure of a branch: means over the `later_half` of its evaluations on one set of episodes.

    A value that is not finite gives ``None``: a failed branch, not a low one. No evaluation raises
    ``ValueError``.
    """
    if not evaluations:
        raise ValueError("no evaluation was given, but a measure needs at least one: evaluate the segment first")
    later = later_half(evaluations)
    progress = [evaluation.progress for evaluation in later if evaluation.progress is not None]
    sparse = _mean_of_means([evaluation.sparse_returns for evaluation in later])
    succeeded, error = of_episodes([evaluation.sparse_returns for evaluation in later])
    return Measure(
        sparse_return=sparse,
        progress=_mean_of_means(progress) if len(progress) == len(later) else None,
        succeeded=None if sparse is None else succeeded,
        error=None if sparse is None else error,
    )


def of_episodes(sparse_returns: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """What the same episodes at several points ``[points][n]`` say beside their mean: `Measure`'s succeeded and error.

    No points give None twice, fewer than 2 episodes no standard error.
    """
    if not sparse_returns:
        return None, None
    values = np.asarray(sparse_returns, np.float64)
    episodes = values.mean(axis=0)
    error = float(np.std(episodes, ddof=1) / math.sqrt(len(episodes))) if len(episodes) > 1 else None
    return float((values > 0).mean()), error


def words(measure: MeasureName) -> str:
    """A measure as it is printed."""
    return measure.replace("_", " ")


def failure(values: Values, expected: int, measure: MeasureName) -> str | None:
    """Why an arm cannot be compared (a sentence's predicate), or ``None`` where every value is finite."""
    what = words(measure)
    if expected < 1 or len(values) != expected:
        return f"has {len(values)} of {max(expected, 1)} {what} values"
    for index, value in enumerate(values):
        if not sound(value):
            flaw = f"has no {what}" if value is None else f"has a {what} that is not finite"
            return f"{flaw} for seed {index + 1} of {expected}"
    return None


def sound(value: float | None) -> TypeGuard[float]:
    """Whether a value can be compared: it is there, and it is finite."""
    return value is not None and math.isfinite(value)


def _mean_of_means(values: Sequence[Sequence[float] | np.ndarray]) -> float | None:
    mean = float(np.mean([np.mean(each) for each in values]))
    return mean if math.isfinite(mean) else None

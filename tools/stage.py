"""The label of a stage: where a main run stands, by simple documented thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

StageLabel = Literal["exploring", "emerging", "improving", "plateau", "regressing"]


def stage_label(history: Sequence[tuple[int, float, float | None]], max_return: float, floor: float) -> StageLabel:
    """The label of a stage from ``(env_steps, sparse return, progress)`` of the main run's evaluations so
    far.

    With the best sparse return at or above the floor (a fraction of ``max_return``): *regressing* - the
    latest is more than 20 % below the best; *improving* - the latest exceeds the one three evaluations
    earlier (or the first) by more than 5 % of the best; *plateau* - otherwise. Below the floor:
    *regressing* - the latest progress is more than 20 % (and 0.02) below the best progress; *emerging* -
    sparse return has reached half the floor, or progress has risen by more than 0.02 since the first
    evaluation; *exploring* - otherwise, and with no evaluation at all.
    """
    ordered = sorted(history, key=lambda point: point[0])
    if not ordered:
        return "exploring"
    returns = [float(point[1]) for point in ordered]
    progress = [float(point[2]) for point in ordered if point[2] is not None]
    if not np.all(np.isfinite(returns + progress)):
        raise ValueError("the history has a value that is not finite: leave failed segments out of it")
    best, latest = max(returns), returns[-1]
    if best >= floor * max_return and best > 0:
        if latest < 0.8 * best:
            return "regressing"
        reference = returns[max(0, len(returns) - 4)]
        return "improving" if latest - reference > 0.05 * best else "plateau"
    if progress and progress[-1] < min(0.8 * max(progress), max(progress) - 0.02):
        return "regressing"
    risen = bool(progress) and progress[-1] - progress[0] > 0.02
    return "emerging" if risen or (latest > 0 and latest >= 0.5 * floor * max_return) else "exploring"

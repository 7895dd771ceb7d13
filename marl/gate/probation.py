"""Probation: whether the main run still does what it did before a promotion, on the same held-out episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from learning_signal.marl.gate.measure import MeasureName, Values, failure, words
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.statistics import checked, sign_flip_p
from learning_signal.marl.settings import Frozen


class ProbationVerdict(Frozen):
    """Whether the main run still does what it did before a promotion, on the same held-out episodes."""

    outcome: Literal["held", "regressed"]
    measure: MeasureName
    n: int
    """Number of episodes."""
    mean_before: float
    mean_after: float | None
    mean_drop: float | None
    """Mean of before minus after; negative where it improved."""
    p: float | None
    """One-sided paired permutation p of "after is lower than before"."""
    delta: float
    alpha: float
    reason: str


def probation(
    before: Sequence[float],
    after: Values,
    before_progress: Sequence[float] | None,
    after_progress: Values | None,
    max_return: float,
    settings: GateSettings,
) -> ProbationVerdict:
    """Whether the main run is significantly below what it was before a promotion.

    ``before`` and ``after`` are sparse returns per episode, the same held-out episodes in the same order;
    progress likewise. *Regressed* iff the mean drop exceeds delta and the one-sided paired permutation p
    over episodes (exact where ``2**n <= probation_resamples``, else resampled from a fixed seed) is at most
    alpha. Progress is judged where both means of sparse return are below the floor and progress is given. A
    missing or non-finite value after the promotion counts as regressed; one before it, fewer than 2 episodes,
    or unequal numbers raise ``ValueError``.
    """
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} episodes before and {len(after)} after were given, "
            "but they are compared in pairs: use the same set"
        )
    n, delta, floor = len(before), settings.delta * max_return, settings.floor * max_return
    measure: MeasureName = "sparse_return"
    start = checked(before)
    flaw = failure(after, n, measure)
    if before_progress is not None and after_progress is not None and not flaw:
        if max(float(start.mean()), float(np.asarray(after, np.float64).mean())) < floor:
            measure, delta, after = "progress", settings.delta_progress, after_progress
            start, flaw = checked(before_progress), failure(after_progress, n, measure)
    common: dict[str, Any] = {
        "measure": measure,
        "n": n,
        "mean_before": float(start.mean()),
        "delta": delta,
        "alpha": settings.alpha,
    }
    if flaw:
        reason = f"regressed: the main run {flaw}"
        return ProbationVerdict(outcome="regressed", mean_after=None, mean_drop=None, p=None, reason=reason, **common)
    end = np.asarray(after, dtype=np.float64)
    drop, p = float((start - end).mean()), sign_flip_p(start - end, settings.probation_resamples, 0)
    outcome: Literal["regressed", "held"] = "regressed" if drop > delta and p <= settings.alpha else "held"
    reason = (
        f"{outcome}: {words(measure)} went from {start.mean():.4g} to {end.mean():.4g} over the same {n} episodes "
        f"(drop {drop:+.4g}, delta {delta:.4g}, p = {p:.4g} against alpha {settings.alpha:g})"
    )
    return ProbationVerdict(outcome=outcome, mean_after=float(end.mean()), mean_drop=drop, p=p, reason=reason, **common)

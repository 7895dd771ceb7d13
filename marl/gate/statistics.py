"""Statistics of paired differences: the exact sign-flip permutation test and the Student-t interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Numbers = Sequence[float] | np.ndarray
"""Values ``[n]``."""
MOST_PAIRS = 20
"""Pairs the exact test takes at most (it visits ``2**n`` sign flips)."""


def paired_permutation_p(differences: Numbers) -> float:
    """Exact one-sided p of "the mean paired difference is positive", over all ``2**n`` sign flips.

    The smallest value ``n`` pairs can give is ``2**-n``. Fewer than 2 or more than 20 pairs, or a value
    that is not finite, raise ``ValueError``. Source: Fisher 1935; Good, "Permutation, Parametric and
    Bootstrap Tests", 2005.
    """
    values = checked(differences)
    if len(values) > MOST_PAIRS:
        raise ValueError(
            f"{len(values)} pairs were given, but the exact test takes at most {MOST_PAIRS}: use fewer seeds"
        )
    return sign_flip_p(values, 2**MOST_PAIRS, 0)


def interval(differences: Numbers, level: float) -> tuple[float, float]:
    """Student-t confidence interval ``(low, high)`` of the mean of paired differences, ``level`` in (0, 1).

    Differences without variance give the degenerate interval ``(mean, mean)``. Fewer than 2 values, or a
    value that is not finite, raise ``ValueError``.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}, but a confidence level lies between 0 and 1: use for example 0.9")
    values = checked(differences)
    from scipy import stats  # a second of import, that no command but a session's comparisons has to wait for

    mean = float(values.mean())
    if np.ptp(values) == 0:
        return mean, mean
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values))
    return mean - half, mean + half


def checked(values: Sequence[float | None] | np.ndarray) -> np.ndarray:
    """``values`` as float64 ``[n]``, n >= 2 and all finite; ``ValueError`` otherwise."""
    failure = "has a missing value" if any(value is None for value in values) else None
    array = np.zeros(0) if failure else np.asarray(values, dtype=np.float64)
    if failure or not np.all(np.isfinite(array)):
        raise ValueError(
            "a value is missing or not finite, but only finite values are compared: leave the failed arm out"
        )
    if len(array) < 2:
        raise ValueError(f"{len(array)} pairs were given, but a paired statistic needs at least 2: use more seeds")
    return array


def sign_flip_p(values: np.ndarray, resamples: int, seed: int) -> float:
    """One-sided sign-flip p of a positive mean: exact where ``2**n <= resamples``, else resampled from
    ``seed``.
    """
    from scipy import stats

    result = stats.permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=4096,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)

"""An interval for a median that needs no assumption about its distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.95
"""The probability that an interval aims at; few values reach less, and it says how much."""


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The interval of order statistics for the median, and the probability with which it holds it.

    It is exact for independent values of any distribution without ties: the median lies between the k-th smallest and
    the k-th largest of n with probability 1 - 2 P(at most k - 1 of n fair coins show heads); k is the largest with
    which that is at least ``LEVEL``, else 1 (Thompson 1936). Of one value it is 0.
    """
    ordered, n = sorted(values), len(values)
    k, level = 1, _covered(1, n)
    while 2 * (k + 1) <= n and _covered(k + 1, n) >= LEVEL:
        k, level = k + 1, _covered(k + 1, n)
    return ordered[k - 1], ordered[n - k], level


def _covered(k: int, n: int) -> float:
    return 1 - 2 * sum(math.comb(n, each) for each in range(k)) / 2**n if n > 1 else 0.0

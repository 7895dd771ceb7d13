"""Bands of a feature: which steps have the same or nearly the same value of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

MOST_VALUES = 5
"""A feature of at most so many values has a band for each of them; others have bands of equal numbers of steps."""
QUANTILES = (0.25, 0.5, 0.75)
GOOD_END = 0.02
"""The best value that occurs is a band of its own from this share of the steps on."""


@dataclass(frozen=True)
class Bands:
    """The bands of one feature, in the order of its values."""

    index: np.ndarray
    """``[S]``: the band of each step."""
    lows: tuple[float, ...]
    """Smallest value that occurs in each band."""
    highs: tuple[float, ...]
    good: int | None
    """The band that holds the best value that occurs and no other; None without a direction or such a band."""


def bands_of(values: np.ndarray, direction: Literal["higher", "lower"] | None) -> Bands:
    """The bands of a feature's ``values`` ``[S]``, one per step, none of them NaN."""
    distinct, first = np.unique(values, return_inverse=True)
    best = {"higher": len(distinct) - 1, "lower": 0}.get(direction or "")
    if len(distinct) <= MOST_VALUES:
        index = first
    else:
        edges = np.unique(np.quantile(values, QUANTILES, method="inverted_cdf"))
        index = np.searchsorted(edges, values, side="left")
        if best is not None and (at_best := first == best).mean() >= GOOD_END:
            index = np.where(at_best, -1 if best == 0 else len(edges) + 1, index)
        index = np.unique(index, return_inverse=True)[1]
    count = int(index.max(initial=-1)) + 1
    lows, highs = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lows, index, values)
    np.maximum.at(highs, index, values)
    good = None
    if best is not None and count > 1:
        at = count - 1 if best else 0
        good = at if lows[at] == highs[at] and np.mean(index == at) >= GOOD_END else None
    return Bands(index, tuple(lows.tolist()), tuple(highs.tolist()), good)

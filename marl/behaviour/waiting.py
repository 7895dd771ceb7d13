"""Which features wait for others: those that stay at their worst value until another one is near its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from learning_signal.marl.behaviour.successes import FEWEST_MOMENTS
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import Feature

MOSTLY = 0.5
"""A feature waits that is at its worst value in at least this share of states."""
BROUGHT = 0.75
"""It waits for a feature that is nearer to its best, by this share of the way, wherever it does not wait."""
MOVED = 0.5
"""And that has come nearer by at least so many of its standard deviations."""
FEWEST_STATES = 10
"""States in which it does not wait; fewer tell nothing."""


class Waiting(Frozen):
    """A feature that is mostly at its worst value."""

    share: float
    """Of states, in which it is."""
    until: tuple[str, ...]
    """The features near their best in the other states, and not in these."""
    then: tuple[float, float]
    """Mean and standard deviation in the other states; the latter is 0 for a switch."""


def waiting(feature: Feature, features: Sequence[Feature], values: Mapping[str, np.ndarray]) -> Waiting | None:
    """How ``feature`` waits for others of ``features``; None where it has no direction or no bound, or does not wait.

    ``values`` holds every feature, ``[T + 1, n]`` (team) or ``[T + 1, n, A]`` (agent), NaN after an episode's end. A
    team feature is compared with the agent that is best off, an agent feature with its own agent.
    """
    own, worst = values[feature.name], _ends(feature)[1]
    known = ~np.isnan(own)
    waits = known & (np.abs(own - worst) <= 1e-6 * max(1.0, abs(worst))) if np.isfinite(worst) else np.zeros_like(known)
    acts = known & ~waits
    share = float(waits.sum() / known.sum())
    episodes = acts.any(axis=0).any(axis=-1) if own.ndim == 3 else acts.any(axis=0)
    if share < MOSTLY or acts.sum() < FEWEST_STATES or episodes.sum() < FEWEST_MOMENTS:
        return None
    others = (other for other in features if other.name != feature.name)
    until = tuple(other.name for other in others if _brought(other, values[other.name], waits, acts))
    return Waiting(share=share, until=until, then=(float(own[acts].mean()), float(own[acts].std())))


def _ends(feature: Feature) -> tuple[float, float]:
    """The best and the worst value; NaN without a direction."""
    ends = {"higher": (feature.high, feature.low), "lower": (feature.low, feature.high)}
    return ends.get(feature.direction or "", (np.nan, np.nan))


def _brought(feature: Feature, values: np.ndarray, waits: np.ndarray, acts: np.ndarray) -> bool:
    """Whether ``feature`` is near its best where the one that waits does not, and far from it where that waits."""
    best = _ends(feature)[0]
    if not np.isfinite(best):
        return False
    gap = np.abs(values - best)
    if gap.ndim == 3 and waits.ndim == 2:
        gap = gap.min(axis=2)
    elif gap.ndim == 2 and waits.ndim == 3:
        gap = np.broadcast_to(gap[..., None], waits.shape)
    before, now = float(np.nanmean(gap[waits])), float(np.nanmean(gap[acts]))
    moved = before - now
    return moved >= BROUGHT * before and moved >= MOVED * float(np.nanstd(values)) and before > 0

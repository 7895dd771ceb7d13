"""Features before a success, set apart from what successes do to them.

Over whole episodes a feature also moves because of the successes themselves: a distance to food grows when the nearest
one is eaten, so it grows with the return. Here an episode about to succeed is compared with those that have had as many
successes and are, at the same step since the last one, still without the next: what successes remove cannot tell these
apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen

FEWEST_SUCCESSES = 10
"""Fewer successes with others to compare with are no evidence."""
CLEAR = 3.0
"""Standard errors from which on the sign of a correlation or of a concordance is called clear."""


class Concordance(Frozen):
    """Whether a feature was higher in episodes that succeed next than in those that could have: in [-1, 1].

    1 where its mean since the last success is always the highest of all that are compared, -1 where always the lowest,
    0 where neither (Harrell's c of a survival analysis with time-matched risk sets, as ``2 c - 1``).
    """

    value: float
    successes: int
    """That were compared with others."""
    error: float
    """Standard error where the feature tells nothing, as each success is then any of those it is compared with."""

    @property
    def clear(self) -> bool:
        """Whether its sign is beyond chance."""
        return abs(self.value) >= CLEAR * self.error


def clear_correlation(value: float, episodes: int) -> bool:
    """Whether the sign of a rank correlation over episodes is beyond chance: its error is ``1 / sqrt(n - 1)`` then."""
    return bool(abs(value) * np.sqrt(episodes - 1) >= CLEAR)


class Phases:
    """The stretches of a record's episodes before, between and after successes (runs of steps with sparse reward)."""

    def __init__(self, record: BehaviourRecord) -> None:
        earned = np.nan_to_num(record.rewards) > 0  # [T, n]
        edges = np.diff(np.pad(earned, ((1, 1), (0, 0))).astype(np.int8), axis=0)
        self._first: list[tuple[int, int, int, bool]] = []
        """Episode, first state, last state, whether a success follows."""
        self._later: dict[int, list[tuple[int, int, int, bool]]] = {}
        """The same by the number of successes before it."""
        for episode, length in enumerate(record.lengths):
            begins, ends = (np.flatnonzero(edges[:, episode] == sign) for sign in (1, -1))
            starts = [0, *ends.tolist()]
            for count, start in enumerate(starts):
                succeeds = count < len(begins)
                last = int(begins[count]) if succeeds else int(length) - 1
                if start <= last:
                    phase = (episode, start, last, succeeds)
                    self._first.append(phase) if count == 0 else self._later.setdefault(count, []).append(phase)

    def before_first(self, values: np.ndarray) -> Concordance | None:
        """Of a feature's values ``[T + 1, n]`` before the first success; None where these are too few."""
        return _concordance(_compared(self._first, values))

    def before_later(self, values: np.ndarray) -> Concordance | None:
        """Of the same before every later success, among episodes with as many behind them."""
        return _concordance([each for phases in self._later.values() for each in _compared(phases, values)])


@dataclass(frozen=True)
class _Compared:
    """Successes at one and the same step since the last one, against the phases that go on without."""

    place: float
    """Mean place of the ``successes`` among the ``others``: 1 above all of them, -1 below, ties count half."""
    successes: int
    others: int

    @property
    def variance(self) -> float:
        """Of ``place`` where the feature tells nothing (Mann and Whitney 1947)."""
        return (self.successes + self.others + 1) / (3 * self.successes * self.others)


def _compared(phases: list[tuple[int, int, int, bool]], values: np.ndarray) -> list[_Compared]:
    """The successes of ``phases`` by the step of their phase, where any other phase lasts longer."""
    if not any(succeeds for *_, succeeds in phases):
        return []
    longest = max(last - start + 1 for _, start, last, _ in phases)
    means = np.full((len(phases), longest), np.nan)  # running mean of each phase; NaN once it is over
    for row, (episode, start, last, _) in enumerate(phases):
        path = values[start : last + 1, episode]
        means[row, : len(path)] = np.cumsum(path) / np.arange(1, len(path) + 1)
    ends = np.array([last - start if succeeds else longest for _, start, last, succeeds in phases])
    found = []
    for at in np.unique(ends[ends < longest]).tolist():
        others = means[ends > at, at]  # those that succeed in this step too are not compared with each other
        others = others[~np.isnan(others)]
        if len(others):
            own = means[ends == at, at]
            difference = own[:, None] - others
            slack = 1e-9 * np.maximum(1.0, np.abs(own))[:, None]
            place = float((np.sign(difference) * (np.abs(difference) > slack)).mean())
            found.append(_Compared(place, len(own), len(others)))
    return found


def _concordance(compared: list[_Compared]) -> Concordance | None:
    successes = sum(each.successes for each in compared)
    if successes < FEWEST_SUCCESSES:
        return None
    value = sum(each.successes * each.place for each in compared) / successes
    error = np.sqrt(sum(each.successes**2 * each.variance for each in compared)) / successes
    return Concordance(value=float(value), successes=successes, error=float(error))

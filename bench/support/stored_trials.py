"""Branches that `bench.gate` has stored, as values to draw from, and how alike arms with one seed are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import numpy as np

from bench.gate import null_branch, offered_branch
from bench.support.cases import Case
from bench.support.trials import CLONE, CONTROL, GATE, GOOD
from learning_signal.marl.gate.measure import Measure, MeasureName, later_half_mean
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore

Branches = Sequence[SegmentResult]


@dataclass(frozen=True)
class Stored:
    """What one parent's trials left behind."""

    parent: str
    control: tuple[Measure, ...]
    """Full branches of the control and of its clones."""
    good: tuple[Measure, ...]
    """Full branches of the good shaping; none where it was not offered."""
    pairs: tuple[tuple[Measure, Measure], ...]
    """Screen branches of control and good shaping with one seed."""
    results: tuple[Branches, ...] = ()
    """What the full branches of both arms were measured from."""

    @property
    def order(self) -> Order:
        """What makes one of its branches better than another."""
        arms = {"control": self.control, "good": self.good}
        return order_of(arms, all(each.progress is not None for each in self.control))

    @property
    def judged(self) -> MeasureName:
        """The measure that its branches are judged in."""
        return "progress" if self.order.step is None else "sparse_return"


def stored(case: Case, store: SegmentStore, episodes: int | None = None) -> list[Stored]:
    """The branches of each parent that are in ``store``, with the first ``episodes`` of each (None: all).

    Parents without any are left out.

    Which branches of a trial there are depends on those before them, never on themselves, so each is a fair draw.
    """

    def arm_of(spec: Callable[[int], SegmentSpec]) -> list[SegmentResult]:
        """The branches of an arm of a trial that are stored; those that failed are not."""
        specs = takewhile(lambda each: store.has(each.id), (spec(index) for index in range(GATE.looks)))
        return [_with_first(store.load_result(each.id), episodes) for each in specs]

    found = []
    for position, parent in enumerate(case.parents):
        control: list[SegmentResult] = []
        for trial in _trials(position, len(case.parents), store, lambda trial: null_branch(case, trial, CONTROL, 0)):
            for arm in (CONTROL, CLONE):
                control += arm_of(lambda index, trial=trial, arm=arm: null_branch(case, trial, arm, index))
        good, pairs = [], []
        if position < case.offered:
            offers = _trials(position, case.offered, store, lambda trial: _offered(case, trial, "screen", CONTROL)(0))
            for trial in offers:
                control += arm_of(_offered(case, trial, "confirm", CONTROL))
                good += arm_of(_offered(case, trial, "confirm", GOOD))
                pair = [arm_of(_offered(case, trial, "screen", arm))[:1] for arm in (CONTROL, GOOD)]
                if all(pair):
                    pairs.append((_measure(pair[0][0], "screen"), _measure(pair[1][0], "screen")))
        if control:
            arms = (tuple(_measure(each) for each in arm) for arm in (control, good))
            found.append(Stored(parent.name, *arms, tuple(pairs), (control, good)))
    return found


def _offered(case: Case, trial: int, purpose: str, arm: str) -> Callable[[int], SegmentSpec]:
    return lambda index: offered_branch(case, trial, arm, purpose, index)


def _trials(first: int, step: int, store: SegmentStore, spec: Callable[[int], SegmentSpec]) -> list[int]:
    """The trials of a parent, as far as they have been begun."""
    return list(takewhile(lambda trial: store.has(spec(trial).id), count(first, step)))


def _with_first(branch: SegmentResult, episodes: int | None) -> SegmentResult:
    """The branch as if it had been measured on so many episodes."""
    cut = slice(episodes)
    shorter = [
        each.model_copy(
            update={
                "sparse_returns": each.sparse_returns[cut],
                "progress": None if each.progress is None else each.progress[cut],
            }
        )
        for each in branch.evaluations
    ]
    return branch.model_copy(update={"evaluations": tuple(shorter)})


def _measure(branch: SegmentResult, episodes: str = "confirm") -> Measure:
    return later_half_mean(branch.evaluations_of(episodes))


def values(arms: Mapping[str, Sequence[Measure]], order: Order) -> dict[str, np.ndarray]:
    """Each branch as the place of its key among all of them; equal keys have equal places."""
    keys = {name: [order.key(each.sparse_return or 0.0, each.progress) for each in arm] for name, arm in arms.items()}
    places = {key: place for place, key in enumerate(sorted({key for arm in keys.values() for key in arm}))}
    return {name: np.array([places[key] for key in arm], float) for name, arm in keys.items()}


def correlation(found: Sequence[Stored]) -> tuple[float, tuple[float, float], int]:
    """Between control and good shaping on one seed, within parents: Pearson's, its 95 % interval and the pairs.

    In the measure that is judged there. NaN for fewer than 5 pairs.
    """
    centred, parents = [], 0
    for each in found:
        if len(each.pairs) > 1:
            table = np.array([[getattr(side, each.judged) for side in pair] for pair in each.pairs], float)
            centred.append(table - table.mean(axis=0))
            parents += 1
    pairs = np.concatenate(centred) if centred else np.empty((0, 2))
    free = len(pairs) - parents - 2
    if free < 1 or not pairs.std(axis=0).all():
        return math.nan, (math.nan, math.nan), len(pairs)
    r = float((pairs[:, 0] * pairs[:, 1]).sum() / math.sqrt((pairs**2).sum(axis=0).prod()))
    low, high = (math.tanh(math.atanh(r) + side * 1.96 / math.sqrt(free)) for side in (-1, 1))
    return r, (low, high), len(pairs)

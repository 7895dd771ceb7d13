"""Action use given a feature: how often each action is chosen in bands of a feature, and where it differs most.

The agents of a group are pooled; an agent feature is that of the acting agent, and the state is the one it acted in.
A difference between two bands is beyond chance where it exceeds the errors of both, with episodes as the independent
units (the steps of one are not) and as many comparisons as are made (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from learning_signal.marl.behaviour.actions import acted_in, action_names
from learning_signal.marl.behaviour.bands import Bands, bands_of
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import Feature, Group, TaskSpec

FEWEST_STEPS = 50
"""A band of fewer steps is not looked at."""
FEWEST_EPISODES = 8
"""Nor one whose steps come from fewer episodes."""
ALPHA = 0.05
"""Probability, at most, that in one group any difference is called beyond chance where nothing depends on anything."""
HARDLY, WEAKLY = 0.1, 0.3
"""An action whose share differs by less between all bands hardly depends on the features; by less than the other,
weakly. Numbers are compared in their standard deviations."""

Dependence = Literal["hardly", "weakly", "clearly", "unknown"]


class Band(Frozen):
    """One band of a feature."""

    low: float
    """Smallest value that occurs in it."""
    high: float
    steps: int
    """Of all agents of the group together."""
    value: float
    """Share of these steps with the action, or mean of the number."""


class Use(Frozen):
    """How one action (or number of a continuous action) depends on features."""

    action: str
    value: float
    """Share of all steps, or mean of the number."""
    depends: Dependence
    """``unknown``: there are differences, and too few steps to tell them from chance."""
    largest: float | None
    """Largest difference between two bands of any feature, whether beyond chance or not; None where there are no two.

    Of shares, or in standard deviations of the number.
    """
    feature: str | None
    """Where the largest difference is that is beyond chance; None where there is none."""
    bands: tuple[Band, ...]
    """The bands of that feature."""


class Contrast(Frozen):
    """Action use where a feature is at the best value that occurs, and elsewhere."""

    feature: str
    scope: Literal["team", "agent"]
    good: float
    share: float
    """Share of the steps in which it is there."""
    there: tuple[float, ...]
    """Per action (or number)."""
    elsewhere: tuple[float, ...]


class GroupUse(Frozen):
    """The action use of the agents of one group."""

    group: str
    steps: int
    features: int
    """How many features were looked at."""
    continuous: bool
    """Whether actions are numbers."""
    uses: tuple[Use, ...]
    contrasts: tuple[Contrast, ...]
    """Of directed features whose best value occurs often enough, those of agents first, then those of fewest bands;
    the same steps only once.
    """


def action_use(record: BehaviourRecord, spec: TaskSpec) -> tuple[GroupUse, ...]:
    """One entry per group of the task that acted at all."""
    found = (_of_group(record, spec, group) for group in spec.groups)
    return tuple(one for one in found if one is not None)


@dataclass(frozen=True)
class _Table:
    """Sums of one feature's bands: ``K`` bands, ``n`` episodes, ``D`` actions."""

    feature: Feature
    bands: Bands
    kept: np.ndarray
    """``[k]``: bands with enough steps and episodes."""
    steps: np.ndarray
    """``[n, K]``"""
    sums: np.ndarray
    """``[n, K, D]``: how often each action was taken, or the sum of each number."""

    @property
    def values(self) -> np.ndarray:
        """``[K, D]``: shares or means."""
        return self.sums.sum(axis=0) / self.steps.sum(axis=0)[:, None]

    def errors(self, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard error ``[D]`` of the difference between band ``high[d]`` and ``low[d]``, and its degrees of freedom.

        Linearised ratio estimator over episodes as clusters (Cochran, "Sampling Techniques", 1977, 6.3 and 9A).
        """
        residuals = (self.sums - self.values * self.steps[..., None]) / self.steps.sum(axis=0)[:, None]
        columns = np.arange(self.sums.shape[2])
        influence = residuals[:, high, columns] - residuals[:, low, columns]
        episodes = (self.steps > 0).sum(axis=0)
        fewest, n = np.minimum(episodes[high], episodes[low]), len(self.steps)
        return np.sqrt((influence**2).sum(axis=0) * n / (n - 1)), fewest - 1


def _of_group(record: BehaviourRecord, spec: TaskSpec, group: Group) -> GroupUse | None:
    members = list(group.agents)
    acted = acted_in(record.actions)[:, :, members]  # [T, n, a]
    if not acted.any():
        return None
    names, taken = action_names(spec)[members[0]], record.actions[:, :, members][acted]
    chosen = taken[:, : len(names)].astype(np.float64) if spec.continuous else np.eye(len(names))[taken]  # [S, D]
    episodes = np.broadcast_to(np.arange(acted.shape[1])[None, :, None], acted.shape)[acted]
    tables, masks = [], []
    for feature in spec.features:
        values = record.features[feature.name][: len(acted)]  # entry t is the state in which action t is chosen
        each = values[..., None] if values.ndim == 2 else values[:, :, members]
        table = _table(feature, np.broadcast_to(each, acted.shape)[acted].astype(np.float64), chosen, episodes)
        tables.append(table)
        masks.append(None if table.bands.good is None else table.bands.index == table.bands.good)
    return GroupUse(
        group=group.name,
        steps=len(chosen),
        features=len(tables),
        continuous=spec.continuous,
        uses=_uses(tables, names, chosen, spec.continuous),
        contrasts=_contrasts(tables, masks, chosen),
    )


def _table(feature: Feature, values: np.ndarray, chosen: np.ndarray, episodes: np.ndarray) -> _Table:
    bands = bands_of(values, feature.direction)
    count, n = len(bands.lows), int(episodes.max()) + 1
    cells = episodes * count + bands.index
    steps = np.bincount(cells, minlength=n * count).reshape(n, count)
    sums = [np.bincount(cells, column, minlength=n * count).reshape(n, count) for column in chosen.T]
    enough = (steps.sum(axis=0) >= FEWEST_STEPS) & ((steps > 0).sum(axis=0) >= FEWEST_EPISODES)
    return _Table(feature, bands, np.flatnonzero(enough), steps, np.stack(sums, axis=2))


def _uses(tables: list[_Table], names: tuple[str, ...], chosen: np.ndarray, continuous: bool) -> tuple[Use, ...]:
    """The dependence of every action."""
    compared = [table for table in tables if len(table.kept) > 1]
    comparisons = len(names) * sum(len(table.kept) * (len(table.kept) - 1) // 2 for table in compared)
    scale = np.maximum(chosen.std(axis=0), 1e-9) if continuous else np.ones(len(names))
    differences, beyond = np.zeros((len(compared), len(names))), np.zeros((len(compared), len(names)), bool)
    for row, table in enumerate(compared):
        values = table.values[table.kept]
        high, low = table.kept[values.argmax(axis=0)], table.kept[values.argmin(axis=0)]
        errors, freedom = table.errors(high, low)
        differences[row] = (values.max(axis=0) - values.min(axis=0)) / scale
        beyond[row] = differences[row] * scale > errors * _quantile(comparisons, freedom)
    return tuple(
        _use(name, float(chosen[:, d].mean()), compared, differences[:, d], beyond[:, d], d)
        for d, name in enumerate(names)
    )


def _quantile(comparisons: int, freedom: np.ndarray) -> np.ndarray:
    """How many standard errors a difference must exceed, two-sided."""
    from scipy import stats  # see marl/gate/statistics.py: a slow import

    return np.asarray(stats.t.isf(ALPHA / (2 * comparisons), freedom))


def _use(
    name: str, value: float, tables: list[_Table], differences: np.ndarray, beyond: np.ndarray, column: int
) -> Use:
    if not len(differences):
        return Use(action=name, value=value, depends="unknown", largest=None, feature=None, bands=())
    largest, place = float(differences.max()), int(np.where(beyond, differences, -1.0).argmax())
    found = beyond[place]
    depends: Dependence = "hardly"
    if largest >= HARDLY:
        known = differences[place] if found else 0.0
        depends = "unknown" if known < HARDLY else "weakly" if known < WEAKLY else "clearly"
    table = tables[place] if found else None
    return Use(
        action=name,
        value=value,
        depends=depends,
        largest=largest,
        feature=None if table is None else table.feature.name,
        bands=() if table is None else tuple(_band(table, at, column) for at in table.kept),
    )


def _band(table: _Table, at: int, column: int) -> Band:
    return Band(
        low=table.bands.lows[at],
        high=table.bands.highs[at],
        steps=int(table.steps[:, at].sum()),
        value=float(table.values[at, column]),
    )


def _contrasts(tables: list[_Table], masks: list[np.ndarray | None], chosen: np.ndarray) -> tuple[Contrast, ...]:
    found: list[Contrast] = []
    known: list[np.ndarray] = []
    order = sorted(zip(tables, masks, strict=True), key=lambda pair: (pair[0].feature.scope, len(pair[0].bands.lows)))
    for table, mask in order:
        good = table.bands.good
        if mask is None or good is None or good not in table.kept or mask.sum() > len(mask) - FEWEST_STEPS:
            continue
        if any(np.array_equal(mask, other) for other in known):
            continue
        known.append(mask)
        found.append(
            Contrast(
                feature=table.feature.name,
                scope=table.feature.scope,
                good=table.bands.lows[good],
                share=float(mask.mean()),
                there=tuple(chosen[mask].mean(axis=0).tolist()),
                elsewhere=tuple(chosen[~mask].mean(axis=0).tolist()),
            )
        )
    return tuple(found)

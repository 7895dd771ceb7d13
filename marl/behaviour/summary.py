"""Summary statistics of behaviour: features over time, by outcome and by agent, actions, and a few episodes.

The numbers come from a ``BehaviourRecord`` (``marl/segments/evaluation.py``): ``T`` steps, ``n`` episodes, ``A``
agents, NaN (choices: -1) after an episode's end. ``marl/behaviour/text.py`` puts them into words.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from learning_signal.marl.behaviour.action_use import GroupUse, action_use
from learning_signal.marl.behaviour.actions import ActionSummary, action_means, action_runs, summarize_actions
from learning_signal.marl.behaviour.phases import Concordance, Phases, clear_correlation
from learning_signal.marl.behaviour.successes import AtSuccess, Moments, Successes, moments_of_success
from learning_signal.marl.behaviour.waiting import Waiting, waiting
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import Feature, TaskSpec

POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Points of an episode, as fractions of its own length, at which features are shown."""


class Correlation(Frozen):
    """Spearman rank correlations over episodes; ``None`` where a side is constant or episodes are fewer than 3."""

    episode_mean: float | None
    """Of the feature's mean over an episode."""
    episode_end: float | None
    """Of the feature's value at an episode's end."""


class FeatureSummary(Frozen):
    """One feature over all episodes; agents are pooled except where it says otherwise."""

    name: str
    scope: Literal["team", "agent"]
    low: float
    high: float
    direction: Literal["higher", "lower"] | None
    over_time: tuple[float, ...]
    """Means at the start, the quarter points and the end of the episodes (``POINTS``)."""
    mean: float
    standard_deviation: float
    """Of all values of all steps and episodes."""
    top: tuple[float, float] | None
    """Mean and mean end value in the top third of episodes; ``None`` without a split."""
    bottom: tuple[float, float] | None
    """The same in the bottom third."""
    by_agent: tuple[float, ...] | None
    """Mean per agent; ``None`` for team features."""
    spread: float | None
    """Largest minus smallest agent value, averaged over states; ``None`` for team features."""
    with_return: Correlation
    with_progress: Correlation
    before_first: Concordance | None
    """With the first success of an episode, which nothing it changes can bend; ``None`` where these are too few."""
    before_later: Concordance | None
    """With later successes, among episodes with as many behind them."""
    misleading: float | None
    """A clear correlation with the return of whole episodes, of mean or end value, that the time before the first
    success contradicts (the sign of ``before_first`` is clear, and another) or does not bear out (it is not clear, and
    the correlation has not the sign of the declared direction); ``None`` where there is none.
    """
    at_success: AtSuccess | None
    """Around the moments of success; ``None`` where these are too few."""
    waits: Waiting | None
    """How it stays at its worst value until others are near their best; ``None`` where it does not."""


class Split(Frozen):
    """The top and the bottom third of the episodes."""

    by: Literal["sparse return", "progress"]
    """Sparse return (ties by progress), or progress where all returns are equal."""
    size: int
    top_mean: float
    bottom_mean: float


class EpisodeSketch(Frozen):
    """One episode in a few lines."""

    rank: Literal["best", "median", "worst"]
    episode: int
    sparse_return: float
    progress: float | None
    steps: int
    features: dict[str, tuple[float, ...]]
    """Values at ``POINTS``, the mean over agents for agent features."""
    actions: tuple[tuple[tuple[str, int], ...], ...] | None
    """Per agent: runs of (action name, steps in a row) until it left; ``None`` where actions are numbers."""
    numbers: tuple[dict[str, tuple[float, ...]] | None, ...] | None
    """Per agent: means of each number of its actions over quarters of its time; ``None`` where actions are choices."""


class BehaviourSummary(Frozen):
    """Everything ``render`` can say about a set of episodes."""

    task: str
    episodes: int
    mean_steps: float
    ended_early: float
    """Share of episodes that ended before the time limit."""
    steps_with_return: float | None
    """Spearman rank correlation of an episode's length; negative where those that end early are the better ones."""
    steps_with_progress: float | None
    sparse_return: float
    """Mean."""
    return_range: tuple[float, float]
    scored: float
    """Share of episodes with a sparse return above 0."""
    progress: float | None
    """Mean over episodes of the mean over steps, or ``None`` where the task declares no progress."""
    successes: Successes | None
    """``None`` where they are too few to tell anything."""
    split: Split | None
    """``None`` where all episodes came out alike or are fewer than 3."""
    features: tuple[FeatureSummary, ...]
    actions: ActionSummary
    action_use: tuple[GroupUse, ...]
    """By group of agents."""
    sketches: tuple[EpisodeSketch, ...]


def summarize(record: BehaviourRecord, spec: TaskSpec) -> BehaviourSummary:
    """The summary of ``record``; ``ValueError`` where it does not fit the task or holds no episode."""
    missing = [feature.name for feature in spec.features if feature.name not in record.features]
    if missing or len(record.lengths) < 1:
        found = f"no {', '.join(missing)}" if missing else "no episode"
        raise ValueError(f"The behaviour record of {record.task} has {found}; evaluate it again with task {spec.name}.")
    progress = None if spec.progress is None else record.progress_means
    split, top, bottom = _split(record.sparse_returns, progress)
    returns, moments, phases = record.sparse_returns, moments_of_success(record, spec), Phases(record)
    return BehaviourSummary(
        task=spec.name,
        episodes=len(returns),
        mean_steps=float(record.lengths.mean()),
        ended_early=float(np.mean(record.lengths < spec.horizon)),
        steps_with_return=_spearman(record.lengths, returns),
        steps_with_progress=_spearman(record.lengths, progress),
        sparse_return=float(returns.mean()),
        return_range=(float(returns.min()), float(returns.max())),
        scored=float(np.mean(returns > 0)),
        progress=None if progress is None else float(progress.mean()),
        successes=None if moments is None else moments.summary,
        split=split,
        features=tuple(
            _feature(feature, record, spec, progress, (top, bottom), moments, phases) for feature in spec.features
        ),
        actions=summarize_actions(record, spec),
        action_use=action_use(record, spec),
        sketches=_sketches(record, spec, progress),
    )


def _split(
    returns: np.ndarray, progress: np.ndarray | None
) -> tuple[Split | None, np.ndarray | None, np.ndarray | None]:
    """The split and the episode indices of its top and bottom third."""
    by, values = "sparse return", returns
    if _constant(returns) and progress is not None:
        by, values = "progress", progress
    if len(returns) < 3 or _constant(values):
        return None, None, None
    order, size = ranking(returns, progress), len(values) // 3
    top, bottom = order[:size], order[-size:]
    split = Split(by=by, size=size, top_mean=float(values[top].mean()), bottom_mean=float(values[bottom].mean()))
    return split, top, bottom


def ranking(returns: np.ndarray, progress: np.ndarray | None) -> np.ndarray:
    """Episode indices from best to worst: by sparse return, ties by progress."""
    ties = np.zeros(len(returns)) if progress is None else progress
    return np.lexsort((ties, returns))[::-1]


def _feature(
    feature: Feature,
    record: BehaviourRecord,
    spec: TaskSpec,
    progress: np.ndarray | None,
    thirds: tuple[np.ndarray | None, np.ndarray | None],
    moments: Moments | None,
    phases: Phases,
) -> FeatureSummary:
    values = np.asarray(record.features[feature.name], np.float64)  # [T + 1, n] or [T + 1, n, A]
    agents = values if values.ndim == 3 else None
    pooled = values if agents is None else values.mean(axis=2)  # [T + 1, n]
    points = _at_points(pooled, record.lengths)
    means, ends = np.nanmean(pooled, axis=0), points[-1]

    def group(rows: np.ndarray | None) -> tuple[float, float] | None:
        return None if rows is None else (float(means[rows].mean()), float(ends[rows].mean()))

    def correlation(outcome: np.ndarray | None) -> Correlation:
        return Correlation(episode_mean=_spearman(means, outcome), episode_end=_spearman(ends, outcome))

    with_return, before_first = correlation(record.sparse_returns), phases.before_first(pooled)
    return FeatureSummary(
        name=feature.name,
        scope=feature.scope,
        low=feature.low,
        high=feature.high,
        direction=feature.direction,
        over_time=tuple(points.mean(axis=1).tolist()),
        mean=float(np.nanmean(values)),
        standard_deviation=float(np.nanstd(values)),
        top=group(thirds[0]),
        bottom=group(thirds[1]),
        by_agent=None if agents is None else tuple(np.nanmean(agents, axis=(0, 1)).tolist()),
        spread=None if agents is None else float(np.nanmean(np.ptp(agents, axis=2))),
        with_return=with_return,
        with_progress=correlation(progress),
        before_first=before_first,
        before_later=phases.before_later(pooled),
        misleading=_misleading(with_return, before_first, feature, len(record.lengths)),
        at_success=None if moments is None else moments.of(values),
        waits=waiting(feature, spec.features, record.features),
    )


def _misleading(with_return: Correlation, first: Concordance | None, feature: Feature, episodes: int) -> float | None:
    """The largest correlation of ``with_return`` that is not to be followed; see ``FeatureSummary.misleading``."""
    if first is None:
        return None
    declared = {"higher": 1.0, "lower": -1.0}.get(feature.direction or "")
    expected = float(np.sign(first.value)) if first.clear else declared
    found = [
        value
        for value in (with_return.episode_mean, with_return.episode_end)
        if value is not None and expected is not None and clear_correlation(value, episodes) and value * expected < 0
    ]
    return max(found, key=abs, default=None)


def _at_points(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``values`` ``[T + 1, n]`` at ``POINTS`` of each episode's own length: ``[5, n]``."""
    steps = np.rint(np.outer(POINTS, lengths)).astype(np.int64)
    return np.take_along_axis(values, steps, axis=0)


def _spearman(values: np.ndarray, outcome: np.ndarray | None) -> float | None:
    if outcome is None or len(values) < 3 or _constant(values) or _constant(outcome):
        return None
    from scipy import stats  # see marl/gate/statistics.py: a slow import

    return float(stats.spearmanr(values, outcome).statistic)


def _constant(values: np.ndarray) -> bool:
    """Whether values differ by no more than rounding."""
    return bool(np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())))


def _sketches(record: BehaviourRecord, spec: TaskSpec, progress: np.ndarray | None) -> tuple[EpisodeSketch, ...]:
    """The best, the median and the worst episode by sparse return, then progress; fewer of fewer episodes."""
    order = ranking(record.sparse_returns, progress)
    ranks = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    chosen = {order[place]: rank for rank, place in reversed(ranks.items())}  # an episode is shown once
    return tuple(
        _sketch(record, spec, progress, chosen[place], place) for place in sorted(chosen, key=list(order).index)
    )


def _sketch(
    record: BehaviourRecord, spec: TaskSpec, progress: np.ndarray | None, rank: str, episode: int
) -> EpisodeSketch:
    length, part = int(record.lengths[episode]), slice(episode, episode + 1)
    features = {}
    for feature in spec.features:
        values = np.asarray(record.features[feature.name], np.float64)[:, part]
        values = values.mean(axis=2) if values.ndim == 3 else values
        features[feature.name] = tuple(_at_points(values, record.lengths[part])[:, 0].tolist())
    return EpisodeSketch(
        rank=rank,
        episode=int(episode),
        sparse_return=float(record.sparse_returns[episode]),
        progress=None if progress is None else float(progress[episode]),
        steps=length,
        features=features,
        actions=None if spec.continuous else action_runs(record, spec, episode),
        numbers=action_means(record, spec, episode) if spec.continuous else None,
    )

"""The same episodes before and after a change of the policy, side by side: pictures, and what a shaping pays for."""

from __future__ import annotations

from typing import Literal

import numpy as np

from learning_signal.marl.behaviour.drawn.scene import Fields, NotTheSame, Scene, fields_of, rounded, step_again
from learning_signal.marl.behaviour.summary import ranking
from learning_signal.marl.segments.points import seeds_of
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen, RunSettings
from learning_signal.marl.shaping import Potential, ShapingConfig, check
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.marl.tasks.foreign.declaration import load

Rank = Literal["median", "best", "worst"]


class DrawnEpisode(Frozen):
    """One episode of a policy."""

    steps: int
    sparse_return: float
    curves: dict[str, tuple[float, ...]]
    """From the start to the last step: the sparse return so far, progress, Phi and its terms (means over agents)."""
    scene: Scene | None
    """None where the task is not drawn as shapes."""
    fields: Fields | None
    """None where agents have no place in the pictures, or nothing is shaped."""


class Pair(Frozen):
    """The same episode, by its seed, before and after."""

    rank: Rank
    """Among all recorded episodes after the change, by sparse return and then by progress."""
    episode: int
    before: DrawnEpisode
    after: DrawnEpisode


class SideBySide(Frozen):
    """Some of the recorded episodes, and how all went on average."""

    episodes: int
    """Recorded."""
    before: float
    after: float
    """Mean sparse returns."""
    pairs: tuple[Pair, ...]
    note: str | None
    """Why there are no pictures, in one sentence; None where there are."""


def side_by_side(
    run: RunSettings, spec: TaskSpec, before: BehaviourRecord, after: BehaviourRecord, shaping: ShapingConfig
) -> SideBySide:
    """The median, the best and the worst episode of ``after`` beside the same ones of ``before``.

    Phi is that of ``shaping`` on both sides, without beta. Raises ``ShapingError`` where it does not fit the task,
    ``NotTheSame`` for records of another one.
    """
    for record in (before, after):
        unknown = [name for name in (feature.name for feature in spec.features) if name not in record.features]
        if unknown or not len(record.lengths):
            raise NotTheSame(f"A record of behaviour has no {(unknown or ['episode'])[0]}: another version wrote it.")
    potential = None if shaping.is_none else check(shaping, spec)
    count, seeds = min(len(before.lengths), len(after.lengths)), seeds_of(run, "query")
    note = _undrawn(run.task)

    def drawn(record: BehaviourRecord, episode: int, *, pictures: bool) -> DrawnEpisode:
        of_episode = (run.task, record, episode, seeds[episode])
        return DrawnEpisode(
            steps=int(record.lengths[episode]),
            sparse_return=float(record.sparse_returns[episode]),
            curves=curves_of(record, episode, potential),
            scene=step_again(*of_episode) if pictures else None,
            fields=fields_of(*of_episode, potential) if pictures and potential is not None else None,
        )

    def pair(rank: Rank, episode: int, *, pictures: bool) -> Pair:
        parts = [drawn(record, episode, pictures=pictures) for record in (before, after)]
        return Pair(rank=rank, episode=episode, before=parts[0], after=parts[1])

    chosen = _chosen(after, count)
    try:
        pairs = [pair(rank, episode, pictures=note is None) for episode, rank in chosen.items()]
    except NotTheSame as error:
        note = str(error)
        pairs = [pair(rank, episode, pictures=False) for episode, rank in chosen.items()]
    return SideBySide(
        episodes=count,
        before=float(before.sparse_returns.mean()),
        after=float(after.sparse_returns.mean()),
        pairs=tuple(pairs),
        note=note,
    )


def curves_of(record: BehaviourRecord, episode: int, potential: Potential | None) -> dict[str, tuple[float, ...]]:
    """The curves of a ``DrawnEpisode``."""
    end = int(record.lengths[episode]) + 1
    rewards = np.nan_to_num(record.rewards[: end - 1, episode].astype(np.float64))
    curves = {"sparse return": np.concatenate([[0.0], np.cumsum(rewards)])}
    if record.progress is not None:
        curves["progress"] = record.progress[:end, episode]
    if potential is not None:
        features = {name: values[:end, episode] for name, values in record.features.items()}
        terms = potential.config.terms
        if len(terms) > 1:
            curves["Phi"] = potential(features).mean(axis=1)
        for term, expression in zip(terms, potential.expressions, strict=True):
            values = term.weight * expression(features)
            mean = values if values.ndim == 1 else values.mean(axis=1)
            words = f"{term.weight}*{term.potential} ({term.scope})"
            curves[words if len(terms) > 1 else f"Phi = {words}"] = mean
    return {name: tuple(rounded(value) for value in values) for name, values in curves.items()}


def _chosen(after: BehaviourRecord, count: int) -> dict[int, Rank]:
    """The median, the best and the worst of the first ``count`` episodes; fewer of fewer."""
    means = None if after.progress_means is None else after.progress_means[:count]
    order = ranking(after.sparse_returns[:count], means)
    places: dict[Rank, int] = {"median": count // 2, "best": 0, "worst": count - 1}
    chosen: dict[int, Rank] = {}
    for rank, place in places.items():
        chosen.setdefault(int(order[place]), rank)
    return chosen


def _undrawn(task_name: str) -> str | None:
    if ":" not in task_name or load(task_name).task.draw is not None:
        return None
    return f"The environment {task_name} declares no drawing: the curves below are all that is shown of its episodes."

"""What an arm does differently from another: outcomes, features and action use, each as a mean over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from learning_signal.marl.behaviour.action_use import action_use
from learning_signal.marl.behaviour.successes import began_to_earn
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks.base import TaskSpec


class Difference(Frozen):
    """One quantity in both arms."""

    name: str
    arm: float
    """Mean over its seeds."""
    other: float
    size: float
    """``arm - other``: of features and numbers in standard deviations of all states, else as it is."""
    apart: bool | None
    """Whether every seed of one arm is above every seed of the other; None where an arm has fewer than two."""


class Against(Frozen):
    """An arm against another on the same episodes."""

    seeds: tuple[int, int]
    outcomes: tuple[Difference, ...]
    """Sparse return, progress, length of episodes and successes, as far as both arms have them."""
    features: tuple[Difference, ...]
    """Means over all states, largest difference first."""
    actions: tuple[Difference, ...]
    """Shares of steps, or means of numbers, largest difference first; ``group: action`` where there are groups."""
    actions_at_best: tuple[Difference, ...]
    """The same where a feature is at its best value; ``load where beside_food is 1``."""


def against(arm: Sequence[BehaviourRecord], other: Sequence[BehaviourRecord], spec: TaskSpec) -> Against:
    """What the seeds of ``arm`` do differently from those of ``other``; ``ValueError`` where either has none."""
    if not arm or not other:
        raise ValueError(f"Found {len(arm)} and {len(other)} behaviour records, expected at least one of each arm.")
    rows = [[_measured(record, spec) for record in records] for records in (arm, other)]
    deviations = _deviations([*arm, *other], spec)

    def compared(part: str) -> tuple[Difference, ...]:
        by_arm = [[seed[part] for seed in seeds] for seeds in rows]
        every = [seed for seeds in by_arm for seed in seeds]
        names = [name for name in every[0] if all(name in seed for seed in every)]
        return tuple(
            _difference(name, [[seed[name] for seed in seeds] for seeds in by_arm], deviations.get((part, name), 1.0))
            for name in names
        )

    def largest_first(found: tuple[Difference, ...]) -> tuple[Difference, ...]:
        return tuple(sorted(found, key=lambda each: -abs(each.size)))

    return Against(
        seeds=(len(arm), len(other)),
        outcomes=compared("outcomes"),
        features=largest_first(compared("features")),
        actions=largest_first(compared("actions")),
        actions_at_best=largest_first(compared("actions_at_best")),
    )


def _difference(name: str, values: Sequence[Sequence[float]], scale: float) -> Difference:
    arm, other = (float(np.mean(seeds)) for seeds in values)
    apart = None
    if min(len(seeds) for seeds in values) > 1:
        apart = min(values[0]) > max(values[1]) or max(values[0]) < min(values[1])
    return Difference(name=name, arm=arm, other=other, size=(arm - other) / scale, apart=apart)


def _measured(record: BehaviourRecord, spec: TaskSpec) -> Mapping[str, Mapping[str, float]]:
    """Everything that is compared, of one seed."""
    began = began_to_earn(record)
    firsts = began.argmax(axis=0)[began.any(axis=0)]
    outcomes = {
        "sparse_return": float(record.sparse_returns.mean()),
        "episodes_with_reward": float(began.any(axis=0).mean()),
        "successes_per_episode": float(began.sum(axis=0).mean()),
        "steps": float(record.lengths.mean()),
    }
    if spec.progress is not None and record.progress_means is not None:
        outcomes["progress"] = float(record.progress_means.mean())
    if len(firsts):
        outcomes["step_of_first_reward"] = float(np.median(firsts))
    actions: dict[str, float] = {}
    at_best: dict[str, float] = {}
    for group in action_use(record, spec):
        prefix = f"{group.group}: " if len(spec.groups) > 1 else ""
        actions |= {f"{prefix}{use.action}": use.value for use in group.uses}
        for one in group.contrasts:
            where = f"where {one.feature} is {one.good:.3g}"
            at_best |= {
                f"{prefix}{use.action} {where}": share for use, share in zip(group.uses, one.there, strict=True)
            }
    features = {each.name: float(np.nanmean(record.features[each.name])) for each in spec.features}
    return {"outcomes": outcomes, "features": features, "actions": actions, "actions_at_best": at_best}


def _deviations(records: Sequence[BehaviourRecord], spec: TaskSpec) -> dict[tuple[str, str], float]:
    """Of every feature over all states of all records; 1 of a constant one."""
    found = {}
    for feature in spec.features:
        moments = [record.features[feature.name].astype(np.float64) for record in records]
        squares = float(np.mean([np.nanvar(values) for values in moments]))
        found["features", feature.name] = np.sqrt(squares) if squares > 0 else 1.0
    return found

"""When a segment is evaluated, which of the sets of episodes are played then, and from which seeds."""

from __future__ import annotations

from typing import Literal

import numpy as np

from learning_signal.marl.randomness import derive, episode_seeds
from learning_signal.marl.segments.records import SETS
from learning_signal.marl.settings import EvaluationSettings, RunSettings, When

Use = Literal["evaluation episodes", "evaluation actions"]
"""What a seed of an evaluation is for: the episode itself, or the actions drawn in it."""


def seeds_of(run: RunSettings, name: str, use: Use = "evaluation episodes") -> np.ndarray:
    """A seed ``[n]`` uint64 for each episode of the set called ``name``."""
    of_all, held_out = run.evaluation_seed, run.held_out_seed
    seed = of_all if name in ("query", "report") or held_out is None else held_out
    return episode_seeds(derive(seed, use, name), 0, run.evaluation.episodes)


def evaluated_after(updates: int, points: int) -> list[int]:
    """The updates after which to evaluate: evenly spaced, the last at the end, fewer where updates are fewer.

    A segment without updates is evaluated at once.
    """
    return sorted({round(updates * k / points) for k in range(1, points + 1)} - {0}) or [0]


def sets_due(evaluation: EvaluationSettings, updates: int) -> dict[int, tuple[str, ...]]:
    """The sets to play, in the order of ``SETS``, by the updates after which any is played."""
    after = evaluated_after(updates, evaluation.points)
    played = {name: _played(getattr(evaluation.played, name), len(after)) for name in SETS}
    due = {
        update: tuple(name for name in SETS if len(after) - index <= played[name]) for index, update in enumerate(after)
    }
    return {update: sets for update, sets in due.items() if sets}


def episodes_of(evaluation: EvaluationSettings, updates: int) -> int:
    """The episodes that the evaluations of a segment of so many updates play, all sets together."""
    return evaluation.episodes * sum(len(sets) for sets in sets_due(evaluation, updates).values())


def _played(when: When, points: int) -> int:
    """At how many of so many points, counted from the last one."""
    return {"every": points, "later half": points - points // 2, "last": 1, "never": 0}[when]

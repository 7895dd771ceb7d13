"""When a segment is evaluated, and which of the sets of episodes are played then."""

from __future__ import annotations

from learning_signal.marl.segments.records import SETS
from learning_signal.marl.settings import EvaluationSettings, When


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

"""When a segment is evaluated and on which sets: the points are the same whatever is played at them."""

from __future__ import annotations

import pytest

from learning_signal.marl.segments.points import episodes_of, evaluated_after, sets_due
from learning_signal.marl.segments.records import SETS
from learning_signal.marl.settings import EvaluationSettings, PlayedSets


def evaluation(points: int = 4, **played: str) -> EvaluationSettings:
    return EvaluationSettings(episodes=10, points=points, played=PlayedSets(**played))


@pytest.mark.parametrize(
    ("updates", "after"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (7, [2, 4, 5, 7]), (8, [2, 4, 6, 8])]
)
def test_points_are_evenly_spaced_and_the_last_is_at_the_end(updates, after):
    assert evaluated_after(updates, 4) == after


@pytest.mark.parametrize("updates", range(1, 14))
@pytest.mark.parametrize("points", [2, 3, 4, 5])
def test_every_set_is_played_at_its_share_of_the_points(updates, points):
    after = evaluated_after(updates, points)
    assert sets_due(evaluation(points), updates) == dict.fromkeys(after, SETS[:3]), "report where a purpose asks"
    due = sets_due(evaluation(points, query="last", screen="later half", confirm="never"), updates)
    assert [at for at, sets in due.items() if "screen" in sets] == after[len(after) // 2 :]
    assert [at for at, sets in due.items() if "query" in sets] == after[-1:]
    assert not any("confirm" in sets or "report" in sets for sets in due.values())
    reported = sets_due(evaluation(points, screen="never", confirm="last", report="last"), updates)
    assert reported[after[-1]] == ("query", "confirm", "report")
    assert all(sets == ("query",) for at, sets in reported.items() if at != after[-1])


def test_episodes_are_those_that_are_played():
    assert episodes_of(evaluation(), 8) == 3 * 4 * 10
    assert episodes_of(evaluation(query="last", screen="later half", confirm="never"), 8) == 3 * 10
    assert episodes_of(evaluation(query="last", screen="later half", confirm="never"), 1) == 2 * 10


def test_a_segment_without_updates_is_evaluated_at_once():
    assert sets_due(evaluation(query="last", screen="never", confirm="never"), 0) == {0: ("query",)}
    assert sets_due(evaluation(query="never", screen="never", confirm="never"), 8) == {}

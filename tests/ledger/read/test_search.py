"""Full-text search over what was said, called and answered."""

from __future__ import annotations

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.events.search import search
from learning_signal.ledger.read.reader import Reader


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("idling", {"said"}),  # also "idle", by its stem
        ('"far away"', {"said"}),
        ("landmark idle", {"said"}),
        ("coverage_distance", {"arguments"}),
        ("0.0653", {"result"}),  # no FTS5 query as it stands: taken literally
        ("Crowding is what is left.", {"arguments"}),
        ("exploring: 600", {"title"}),
        ("%%", set()),
        ("zebra", set()),
        ("(4 branches", {"title"}),
        ("((", set()),
    ],
)
def test_search(recorded: Reader, query: str, places: set[str]) -> None:
    hits = search(recorded, query)
    assert places <= {hit.place for hit in hits} if places else hits == []


def test_search_filters_and_refuses_nothing(recorded: Reader) -> None:
    assert {hit.event.round for hit in search(recorded, "landmark", round=2)} == {2}
    assert {hit.event.agent for hit in search(recorded, "landmark", session="latest", agent="generator")} <= {
        "generator"
    }
    assert len(search(recorded, "landmark", limit=1)) == 1
    assert "«landmark»" in search(recorded, "landmark", kind="message")[0].snippet
    with pytest.raises(LedgerError, match="Nothing to search for"):
        search(recorded, "  ")

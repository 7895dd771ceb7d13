"""Full-text search over what was said, called and answered."""

from __future__ import annotations

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.search import search


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("idle", {"said"}),  # also "idleness", by its stem; but a tool result of one JSON line is one text
        ('"far away"', {"said"}),
        ("landmark idle", {"said"}),
        ("coverage_distance", {"arguments"}),
        ("0.61", {"result"}),  # no FTS5 query as it stands: taken literally
        ("crowding is what is left.", {"said"}),
        ("exploring: sparse", {"title"}),
        ("%", set()),
        ("zebra", set()),
        ("(interval", {"title"}),
        ("((", set()),
    ],
)
def test_search(sample: Reader, query: str, places: set[str]) -> None:
    hits = search(sample, query)
    assert places <= {hit.place for hit in hits} if places else hits == []


def test_search_filters_and_refuses_nothing(sample: Reader) -> None:
    assert {hit.event.round for hit in search(sample, "landmark", round=2)} == {2}
    assert {hit.event.agent for hit in search(sample, "landmark", session="latest", agent="generator")} <= {"generator"}
    assert len(search(sample, "landmark", limit=1)) == 1
    assert "«landmark»" in search(sample, "landmark", kind="message")[0].snippet
    with pytest.raises(LedgerError, match="Nothing to search for"):
        search(sample, "  ")

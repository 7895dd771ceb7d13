"""Events with everything behind them: many at once are the same as each alone, and asked for in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.decision.explain import explain, explain_all
from learning_signal.ledger.read.events import entries as module
from learning_signal.ledger.read.reader import Reader
from tests.support.recorded_ledger import recorded_ledger


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory):
    with Reader.open(recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")) as reader:
        yield reader


def statements(reader: Reader, made: Callable[[], Any]) -> int:
    """How many statements the ledger ran while this was made."""
    run: list[str] = []
    reader._connection.set_trace_callback(run.append)
    made()
    reader._connection.set_trace_callback(None)
    return len(run)


def test_many_entries_are_what_each_is_alone(recorded: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 7)  # so that some are read together, and not all
    events = [event for session in recorded.session_ids() for event in recorded.events(session)]
    together = list(recorded.entries(events))
    assert [each.event for each in together] == events
    assert together == [recorded.entry(each.seq) for each in events]
    assert any(each.llm_calls for each in together) and any(each.reference for each in together)


def test_a_body_that_is_missing_is_named(tmp_path: Path) -> None:
    path = recorded_ledger(tmp_path / "ledger.db")
    with sqlite3.connect(path) as damaged:
        damaged.execute("DROP TRIGGER bodies_no_delete")
        (gone,) = damaged.execute("SELECT body FROM messages ORDER BY id LIMIT 1").fetchone()
        damaged.execute("DELETE FROM bodies WHERE hash = ?", (gone,))
    with Reader.open(path) as reader, pytest.raises(LedgerError, match=f"lacks the body {gone}"):
        list(reader.entries(reader.events()))


def test_the_statements_for_entries_do_not_grow_with_events(recorded: Reader) -> None:
    events = recorded.events()
    assert len(events) > 100
    few, all_of_them = (
        statements(recorded, lambda some=some: list(recorded.entries(some))) for some in (events[:60], events)
    )
    assert all_of_them <= few + 10


def test_decisions_explained_together_are_what_each_is_alone(recorded: Reader) -> None:
    decided = recorded.decisions()
    together = explain_all(recorded)
    assert together == [explain(recorded, each.id) for each in decided] and len(together) > 1
    alone = sum(statements(recorded, lambda one=each.id: explain(recorded, one)) for each in decided)
    assert statements(recorded, lambda: explain_all(recorded)) < alone

"""The file of an open ledger is gone from its place: the next write says so, and where its rows are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from learning_signal.ledger.file import lost
from learning_signal.ledger.file.lost import LedgerLost
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin


def _named(error: LedgerLost) -> Path:
    found = re.search(r"all of its rows are in (\S+): ", str(error))
    assert found, str(error)
    return Path(found[1])


def test_a_heartbeat_notices_it_and_its_rows_are_rescued_once(ledger: Ledger, session: str) -> None:
    ledger.path.unlink()
    with pytest.raises(LedgerLost) as stopped:
        ledger.heartbeat(session)
    again = _named(stopped.value)
    with pytest.raises(LedgerLost, match=re.escape(str(again))):
        ledger.event(session, "message", "x")
    assert list(again.parent.glob("*rescued*")) == [again], "rescued once"


def test_what_the_last_transaction_wrote_is_rescued(ledger: Ledger, session: str) -> None:
    ledger.path.unlink()
    with pytest.raises(LedgerLost) as stopped, ledger.transaction("step"):
        ledger.event(session, "message", "the last step")
    with Reader.open(_named(stopped.value)) as reader:
        assert reader.events()[-1].title == "the last step"


def test_where_nothing_can_be_written_that_is_said(
    ledger: Ledger, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise lost.LedgerError("The disk is full.")

    monkeypatch.setattr(lost, "write_copy", refused)
    ledger.path.unlink()
    with pytest.raises(LedgerLost, match=r"could not be written elsewhere \(The disk is full\. The disk is full"):
        ledger.event(session, "message", "x")


def test_a_ledger_of_several_sessions_names_no_single_one(ledger: Ledger, session: str) -> None:
    begin(ledger)
    ledger.path.unlink()
    with pytest.raises(LedgerLost, match="see '.* log list --ledger"):
        ledger.event(session, "message", "x")


def test_a_place_that_cannot_be_looked_at_is_no_loss(
    ledger: Ledger, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(path: Path) -> tuple[int, int]:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(lost, "_inode", unreachable)
    ledger.event(session, "message", "written")
    assert ledger.rows("SELECT title FROM events")[-1]["title"] == "written"

"""The stored fates of a session's candidates are those that its verdicts and decisions make, and others are found."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from learning_signal.ledger.read.fates import check_fates, stored_fates
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.tools.plan.settings import TriggerSettings
from tests.support.ledger_helpers import tamper
from tests.support.session_helpers import run_inline, tiny_settings


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """A ledger in which rounds 1 and 3 promote, and rounds 2 and 4 take it back."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHETIC_WORLD", "regresses")
        settings = tiny_settings(folder, rounds=3, trigger=TriggerSettings(every=1))
        assert run_inline(settings).status == "done"
    return settings.ledger


@pytest.fixture
def ledger(session, tmp_path) -> Path:
    return Path(shutil.copy(session, tmp_path / "ledger.db"))


def test_those_of_a_session_follow_from_its_rows(ledger):
    with Reader.open(ledger) as reader:
        fates = [(row.round, row.fate) for row in stored_fates(reader, reader.session_id())]
        assert check_fates(reader) == verify(reader) == []
    assert sorted(fates) == [
        (1, "promoted"),
        (1, "screened out"),
        (2, "rolled back"),
        (3, "promoted"),
        (3, "screened out"),
        (4, "rolled back"),
    ]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE fates SET fate = 'passed' WHERE round = 1 AND fate = 'promoted'", "says passed, .* make it promoted"),
        ("UPDATE fates SET fate = 'promoted' WHERE fate = 'screened out'", "says promoted, .* make it screened out"),
        ("UPDATE fates SET fate = 'not compared' WHERE fate = 'screened out'", "says not compared, .* screened out"),
        ("UPDATE fates SET fate = 'failed' WHERE round = 2", "says failed, .* round 2 make it rolled back"),
        ("UPDATE fates SET reason = 'x' WHERE fate = 'promoted'", "says promoted for another reason than round 1"),
        (
            "UPDATE fates SET reason = 'x' WHERE fate = 'rolled back'",
            "says rolled back for another reason than round 2",
        ),
        ("UPDATE fates SET round = 3 WHERE round = 2", "rolled back since round 3, but no verdict or decision"),
        ("DELETE FROM fates WHERE round = 1 AND fate = 'screened out'", "has none of round 1, expected screened out"),
        ("DELETE FROM fates WHERE round = 2", "has none of round 2, expected rolled back"),
        ("UPDATE verdicts SET outcome = 'fail', reason = 'x'", "says promoted for another reason than round 1"),
    ],
)
def test_one_that_does_not_follow_is_found(ledger, statement, problem):
    tamper(ledger, statement)
    with Reader.open(ledger) as reader:
        findings = [each.problem for each in check_fates(reader)]
        assert [each.problem for each in verify(reader) if each.table == "fates"] == findings
    assert any(re.search(problem, each) for each in findings), findings


@pytest.mark.parametrize(("gone", "found"), [("round = 1", 0), ("round = 3", 2)])
def test_a_round_older_than_the_table_owes_none(ledger, gone, found):
    """As in a session of version 2 that goes on in version 3; in the midst of others they are missed."""
    tamper(ledger, f"DELETE FROM fates WHERE {gone}")
    with Reader.open(ledger) as reader:
        assert len(check_fates(reader)) == found

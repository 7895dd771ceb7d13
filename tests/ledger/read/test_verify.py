"""Verification: a sound ledger has no findings, and whatever was changed is one."""

from __future__ import annotations

import json
import sqlite3

import pytest

from learning_signal.ledger.canonical import canonical_json, content_hash
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from tests.support.ledger_helpers import tamper


def test_a_sound_ledger_has_no_findings(recorded: Reader) -> None:
    assert verify(recorded) == []
    assert verify(recorded, recompute, session_rules) == []


@pytest.mark.parametrize(
    ("statement", "table", "row", "problem"),
    [
        ("UPDATE bodies SET body = body || '!' WHERE body LIKE 'Nobody sco%'", "bodies", "", "was changed"),
        ("UPDATE decisions SET reason = 'because' WHERE number = 1", "decisions", "R1", "does not fit"),
        ("UPDATE decisions SET hash = 'x' WHERE number = 1", "decisions", "R2", "does not continue"),
        ("DELETE FROM decisions WHERE number = 1", "decisions", "R2", "one is missing"),
        ("UPDATE verdicts SET reading = 'perfect' WHERE round = 1", "decisions", "R1", "does not fit"),
        ("UPDATE verdicts SET outcome = 'pass' WHERE round = 2", "verdicts", "V2.0", "comparison says fail"),
        ("UPDATE verdicts SET outcome = 'pass' WHERE round = 2", "verdicts", "V2.1", "comparison says inconclusive"),
        ("UPDATE verdicts SET outcome = 'fail' WHERE round = 1", "decisions", "R1", "on the verdict fail"),
        ("UPDATE candidates SET rationale = 'x' WHERE name = 'c1'", "decisions", "R1", "does not fit"),
        ("UPDATE evaluations SET progress = 0.9 WHERE id = 1", "evaluations", "1", "not the mean"),
        ("UPDATE messages SET event_seq = 9999 WHERE id = 1", "messages", "row 1", "does not exist"),
    ],
)
def test_tampering_is_named(written: Ledger, statement: str, table: str, row: str, problem: str) -> None:
    written.close()
    tamper(written.path, statement)
    with Reader.open(written.path) as reader:
        findings = verify(reader)
    assert any(each.table == table and row in each.row and problem in each.problem for each in findings), findings


def quoted(text: str) -> str:
    """A literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def test_a_statistic_exchanged_with_all_its_hashes_is_found_by_computing_it_again(written: Ledger) -> None:
    """The most careful forger: a new result body with its right hash, and the whole chain hashed anew."""
    row = written.rows(
        "SELECT c.id, b.body FROM comparisons c JOIN bodies b ON b.hash = c.result WHERE c.id LIKE '%/C1'"
    )[0]
    result = json.loads(row["body"])
    mean, result["arms"][0]["mean_difference"] = result["arms"][0]["mean_difference"], 0.5
    forged = canonical_json(result)
    written.close()
    tamper(
        written.path,
        f"INSERT INTO bodies (hash, body) VALUES ('{content_hash(forged)}', {quoted(forged)})",
        f"UPDATE comparisons SET result = '{content_hash(forged)}' WHERE id = '{row['id']}'",
    )
    with Reader.open(written.path) as reader:
        assert verify(reader) == []  # a screen is in no decision's hash: only the statistics can tell
        findings = verify(reader, recompute, session_rules)
    assert [(each.table, each.row) for each in findings] == [("comparisons", row["id"])]
    assert findings[0].problem.startswith(f"arms[0].mean_difference is 0.5, computed again it is {mean}")


def test_measures_that_are_not_those_of_the_evaluations_are_found(written: Ledger) -> None:
    row = written.rows(
        "SELECT c.id, b.body FROM comparisons c JOIN bodies b ON b.hash = c.inputs WHERE c.id LIKE '%/C2'"
    )[0]
    inputs = json.loads(row["body"])
    inputs["arms"]["c1"][2]["progress"] = 0.99
    forged = canonical_json(inputs)
    written.close()
    tamper(
        written.path,
        f"INSERT INTO bodies (hash, body) VALUES ('{content_hash(forged)}', {quoted(forged)})",
        f"UPDATE comparisons SET inputs = '{content_hash(forged)}' WHERE id = '{row['id']}'",
    )
    with Reader.open(written.path) as reader:
        findings = verify(reader)
    assert any(each.row == row["id"] and "progress of c1, seed 3, is 0.99" in each.problem for each in findings)
    assert any(each.table == "decisions" for each in findings)  # a confirmation is in the decision's hash


def test_missing_guards_and_failing_statistics_are_findings(written: Ledger) -> None:
    written.close()
    raw = sqlite3.connect(written.path)
    raw.execute("DROP TRIGGER bodies_no_update")
    raw.commit()

    def broken(purpose: str, inputs: dict, settings: dict) -> dict:
        raise ZeroDivisionError("no pairs")

    with Reader.open(written.path) as reader:
        assert [(each.table, each.row) for each in verify(reader)] == [("trigger", "bodies_no_update")]
        problems = [each.problem for each in verify(reader, broken) if each.table == "comparisons"]
    assert problems == ["its statistics cannot be computed again: no pairs"] * 10


def test_a_damaged_body_does_not_stop_the_other_checks(written: Ledger) -> None:
    written.close()
    tamper(
        written.path,
        "UPDATE bodies SET body = 'no JSON' WHERE hash = (SELECT result FROM comparisons WHERE id LIKE '%/C1')",
        "UPDATE decisions SET reason = 'x' WHERE number = 2",
    )
    with Reader.open(written.path) as reader:
        tables = {each.table for each in verify(reader)}
    assert {"bodies", "decisions", "ledger"} <= tables

"""Check a ledger: hashes, the chain of decisions, references, fates, remarks and statistics, all computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file.damage import UNREADABLE
from learning_signal.ledger.migrations import expected_migrations, expected_triggers
from learning_signal.ledger.read.checks.chains import check_chains
from learning_signal.ledger.read.checks.comparisons import Recompute, SessionRules, check_comparisons
from learning_signal.ledger.read.checks.damage import changed_bodies
from learning_signal.ledger.read.claims import ClaimRow, claims
from learning_signal.ledger.read.fates import check_fates
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Finding
from learning_signal.ledger.read.remarks import check_remarks
from learning_signal.ledger.schema import CONFIGURED_TASK
from learning_signal.ledger.write.chain import RESTS_ON, decision_hash

Recheck = Callable[[Reader, ClaimRow], list[dict[str, Any]]]
"""The marks of a stored claim, computed again from the rows before it."""


def verify(reader: Reader, recompute: Recompute | None = None, rules: SessionRules | None = None) -> list[Finding]:
    """Return what is wrong with the ledger; an empty list says that everything was checked and agrees.

    Args:
        recompute: the gate's own statistics; without it only their inputs are checked.
        rules: what the comparisons of a session must say; without it they are not compared with its configuration.
    """
    findings = []
    for check in (
        _database,
        _guards,
        changed_bodies,
        _ids,
        _tasks,
        lambda each: check_chains(each)[1],
        _decisions,
        _verdicts,
        check_fates,
        check_remarks,
        lambda each: check_comparisons(each, recompute, rules),
    ):
        try:
            findings += check(reader)
        except (LedgerError, *UNREADABLE) as error:  # damage may stop a check, not the others
            why = str(error) if isinstance(error, LedgerError) else f"{type(error).__name__}: {error}"
            findings.append(Finding("ledger", str(reader.path), f"a check could not be finished: {why}"))
    return findings


def notices(reader: Reader, recheck: Recheck) -> list[Finding]:
    """What agents said that the record does not support, computed again: no damage to the ledger, but no record either.

    Claims of earlier versions were not checked, and are not here.
    """
    found = []
    for session in reader.session_ids():
        try:
            made = claims(reader, session)
        except (LedgerError, *UNREADABLE) as error:
            found.append(Finding("claims", session, f"could not be read: {error}"))
            continue
        found += [finding for claim in made for finding in _of_claim(reader, claim, recheck)]
    return found


def _of_claim(reader: Reader, claim: ClaimRow, recheck: Recheck) -> list[Finding]:
    try:
        computed = recheck(reader, claim)
    except (LedgerError, *UNREADABLE) as error:
        problem = f"words of the {claim.agent} could not be held against the record again: {error}"
        return [Finding(claim.about, claim.row_id, problem)]
    every = {each["problem"]: each for each in (*claim.marks, *computed)}
    return [
        Finding(claim.about, claim.row_id, f"{claim.agent}: {problem}{_since(mark, claim.marks, computed)}")
        for problem, mark in every.items()
    ]


def _since(mark: dict[str, Any], stored: list[dict[str, Any]], computed: list[dict[str, Any]]) -> str:
    if mark not in stored:
        return "; it was not marked when it was made"
    return "" if mark in computed else "; it was marked when it was made, and computed again it is not"


def _database(reader: Reader) -> list[Finding]:
    problems = [next(iter(row.values())) for row in reader.rows("PRAGMA integrity_check")]
    findings = [Finding("sqlite", str(reader.path), problem) for problem in problems if problem != "ok"]
    for row in reader.rows("PRAGMA foreign_key_check"):
        problem = f"refers to a row of {row['parent']} that does not exist"
        findings.append(Finding(row["table"], f"row {row['rowid']}", problem))
    return findings


def _guards(reader: Reader) -> list[Finding]:
    (version,) = (row["user_version"] for row in reader.rows("PRAGMA user_version"))
    found = {
        row["name"]: row["sql"] for row in reader.rows("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    }
    findings = [
        Finding("trigger", name, "is missing or changed: rows could have been rewritten")
        for name, sql in expected_triggers(version).items()
        if found.get(name) != sql
    ]
    applied = reader.rows("SELECT migration_set, name FROM _sqlite_migrations ORDER BY id")
    if [tuple(row.values()) for row in applied] != [("ledger", name) for name in expected_migrations(version)]:
        problem = f"does not list the migrations of version {version}"
        findings.append(Finding("_sqlite_migrations", str(reader.path), problem))
    return findings


def _ids(reader: Reader) -> list[Finding]:
    """Sessions that cannot be read, and so not be checked."""
    problem = "has an id that this program does not write, so it is not read: what belongs to it was not checked"
    return [Finding("sessions", each, problem) for each in reader.strange_sessions()]


def _tasks(reader: Reader) -> list[Finding]:
    rows = reader.rows(
        f"SELECT sessions.id, task, json_extract(body, '{CONFIGURED_TASK}') stored FROM sessions "
        "JOIN bodies ON hash = config AND json_valid(body)"
    )
    return [
        Finding("sessions", row["id"], f"its row names the task {row['task']}, its configuration {row['stored']}")
        for row in rows
        if row["stored"] not in (None, row["task"])
    ]


def _decisions(reader: Reader) -> list[Finding]:
    findings = []
    before: dict[str, tuple[int, str]] = {}
    for row in reader.rows("SELECT * FROM decisions ORDER BY session_id, number"):
        number, previous = before.get(row["session_id"], (0, ""))
        if row["number"] != number + 1:
            findings.append(
                Finding("decisions", row["id"], f"is number {row['number']}, expected {number + 1}: one is missing")
            )
        if row["previous_hash"] != previous:
            findings.append(Finding("decisions", row["id"], "does not continue the decision before it"))
        if decision_hash(row, _rests_on(reader, row)) != row["hash"]:
            findings.append(Finding("decisions", row["id"], "its hash does not fit the row or what it rests on"))
        before[row["session_id"]] = (row["number"], row["hash"])
    return findings


def _rests_on(reader: Reader, decision: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    rows = {name: _row(reader, table, decision[column]) for name, (table, column) in RESTS_ON.items()}
    verdict = rows["verdict"]
    return rows | {"judged": _row(reader, "comparisons", verdict["comparison_id"]) if verdict else None}


def _row(reader: Reader, table: str, key: str | None) -> dict[str, Any] | None:
    rows = reader.rows(f"SELECT * FROM {table} WHERE id = ?", (key,))
    return rows[0] if rows else None


def _verdicts(reader: Reader) -> list[Finding]:
    findings = []
    for row in reader.rows(
        "SELECT v.id, v.outcome, c.result FROM verdicts v JOIN comparisons c ON c.id = v.comparison_id "
        "WHERE c.purpose = 'confirm'"
    ):
        computed = reader.object(row["result"]).get("outcome")
        if computed != row["outcome"]:
            findings.append(Finding("verdicts", row["id"], f"says {row['outcome']}, its comparison says {computed}"))
    for row in reader.rows(
        "SELECT d.id, v.outcome FROM decisions d LEFT JOIN verdicts v ON v.id = d.verdict_id WHERE d.action = 'promote'"
    ):
        if row["outcome"] != "pass":
            findings.append(
                Finding("decisions", row["id"], f"promotes on the verdict {row['outcome'] or 'none'}, not on a pass")
            )
    return findings

"""Check a ledger: hashes, the chain of decisions, references, fates and statistics, all computed again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from learning_signal.ledger.canonical import content_hash
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.migrations import expected_triggers
from learning_signal.ledger.read.fates import check_fates
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, EvaluationRow, Finding, SegmentRow
from learning_signal.ledger.schema import CONFIGURED_TASK
from learning_signal.ledger.write.chain import RESTS_ON, decision_hash

Recompute = Callable[[str, dict[str, Any], dict[str, Any]], dict[str, Any]]
"""(purpose, inputs, settings) -> the result of the comparison, computed anew.

Where an arm of ``inputs`` names one evaluation (a probation), its episodes are added to it, as
``sparse_returns`` and ``progress``; to each seed of another arm all its evaluations on its episodes, as ``offered``."""

SessionRules = Callable[[dict[str, Any]], dict[str, dict[str, Any]]]
"""The configuration of a session -> what each of its comparisons must say.

``settings``: those of the gate by name; by purpose: what must be among the comparison's ``inputs``."""

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Numbers that differ by less are equal: another machine may sum in another order."""


def verify(reader: Reader, recompute: Recompute | None = None, rules: SessionRules | None = None) -> list[Finding]:
    """Return what is wrong with the ledger; an empty list says that everything was checked and agrees.

    Args:
        recompute: the gate's own statistics; without it only their inputs are checked.
        rules: what the comparisons of a session must say; without it they are not compared with its configuration.
    """
    findings = _database(reader) + _guards(reader) + _bodies(reader) + _ids(reader) + _tasks(reader)
    for check in (_decisions, _verdicts, check_fates, _evaluations, lambda each: _comparisons(each, recompute, rules)):
        try:
            findings += check(reader)
        except (LedgerError, ValueError, KeyError) as error:  # a damaged body may stop a check, not the others
            findings.append(Finding("ledger", str(reader.path), f"a check could not be finished: {error}"))
    return findings


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
    return [
        Finding("trigger", name, "is missing or changed: rows could have been rewritten")
        for name, sql in expected_triggers(version).items()
        if found.get(name) != sql
    ]


def _ids(reader: Reader) -> list[Finding]:
    """Sessions that cannot be read, and so not be checked."""
    problem = "has an id that this program does not write, so it is not read: what belongs to it was not checked"
    return [Finding("sessions", each, problem) for each in reader.strange_sessions()]


def _bodies(reader: Reader) -> list[Finding]:
    return [
        Finding("bodies", row["hash"], "the body does not have this hash: it was changed")
        for row in reader.rows("SELECT hash, body FROM bodies")
        if content_hash(row["body"]) != row["hash"]
    ]


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
        computed = reader.json(row["result"]).get("outcome")
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


def _evaluations(reader: Reader) -> list[Finding]:
    findings = []
    for session in reader.sessions(limit=None):
        for row in reader.evaluations(session.id):
            for name, mean, values in (
                ("sparse_return", row.sparse_return, row.sparse_returns),
                ("progress", row.progress, row.progresses),
            ):
                if not _same(mean, None if values is None else _mean(values)):
                    problem = f"{name} is {mean}, but not the mean of its episodes"
                    findings.append(Finding("evaluations", str(row.id), problem))
    return findings


def _comparisons(reader: Reader, recompute: Recompute | None, rules: SessionRules | None) -> list[Finding]:
    findings = []
    for session in reader.sessions(limit=None):
        evaluations = {
            (each.segment_id, each.episode_set, each.env_steps): each for each in reader.evaluations(session.id)
        }
        segments, expected = reader.segments(session.id), rules(reader.config(session.id)) if rules else {}
        for comparison in reader.comparisons(session.id):
            findings += _configured(comparison, expected)
            findings += _branches(reader, comparison) + _pairs(comparison, segments)
            findings += _inputs(comparison, evaluations)
            if recompute is not None:
                findings += _statistics(comparison, evaluations, recompute)
    return findings


def _configured(comparison: ComparisonRow, expected: dict[str, dict[str, Any]]) -> list[Finding]:
    """Whether a comparison was made with the gate, and for as many confirmations, as its session was configured."""
    pairs = [
        *((name, comparison.settings.get(name), value) for name, value in expected.get("settings", {}).items()),
        *((name, comparison.inputs.get(name), value) for name, value in expected.get(comparison.purpose, {}).items()),
    ]
    return [
        Finding("comparisons", comparison.id, f"its {name} is {found}, the session's is {value}")
        for name, found, value in pairs
        if found != value
    ]


def _branches(reader: Reader, comparison: ComparisonRow) -> list[Finding]:
    """Whether it compares every seed of each arm's branch (of a screen: of its rung)."""
    purpose = comparison.purpose
    if purpose == "probation":
        return []
    launched: dict[str, list[str]] = {}
    for row in reader.rows(
        "SELECT b.arm, s.segment_id FROM branches b JOIN branch_segments s ON s.branch_id = b.id "
        "WHERE b.session_id = ? AND b.round = ? AND b.refinement = ? AND b.purpose = ? ORDER BY s.position",
        (comparison.session_id, comparison.round, comparison.refinement, purpose),
    ):
        launched.setdefault(row["arm"], []).append(row["segment_id"])
    # The gate checks their number itself when it recomputes.
    seeds = max(len(measured) for measured in comparison.inputs["arms"].values())
    rung = comparison.inputs.get("rung", 0)
    return [
        Finding("comparisons", comparison.id, f"compares other segments of {arm} than its branch has")
        for arm, measured in comparison.inputs["arms"].items()
        if [each["segment"] for each in measured] != launched.get(arm, [])[rung * seeds : (rung + 1) * seeds]
    ]


def _pairs(comparison: ComparisonRow, segments: dict[str, SegmentRow]) -> list[Finding]:
    """Whether each arm was trained on the control's seeds, in its order, and under one shaping."""
    if comparison.purpose == "probation":
        return []
    arms = {
        arm: [segments[each["segment"]] for each in measured if each["segment"] in segments]
        for arm, measured in comparison.inputs["arms"].items()
    }
    findings = []
    for arm, trained in arms.items():
        if [each.seed for each in trained] != [each.seed for each in arms.get("control", [])]:
            findings.append(Finding("comparisons", comparison.id, f"{arm} has other seeds than control"))
        if any(each.shaping != trained[0].shaping for each in trained):
            findings.append(Finding("comparisons", comparison.id, f"{arm} was trained under several shapings"))
    return findings


def _inputs(comparison: ComparisonRow, evaluations: dict[tuple[str, str, int], EvaluationRow]) -> list[Finding]:
    """Whether its stated measures are those of the evaluations it names.

    Which ones it must use is the gate's to say: ``recompute`` refuses others.
    """
    if comparison.purpose == "probation":
        return []
    findings = []
    for arm, seeds in comparison.inputs["arms"].items():
        for index, seed in enumerate(seeds):
            rows = [evaluations.get((seed["segment"], seed["episode_set"], at)) for at in seed["evaluations"]]
            for name in ("sparse_return", "progress"):
                values = [None if row is None else getattr(row, name) for row in rows]
                known = [value for value in values if value is not None]
                expected = _mean(known) if known and len(known) == len(values) else None
                if not _same(seed[name], expected):
                    problem = f"{name} of {arm}, seed {index + 1}, is {seed[name]}, its evaluations give {expected}"
                    findings.append(Finding("comparisons", comparison.id, problem))
    return findings


def _with_episodes(inputs: dict[str, Any], evaluations: dict[tuple[str, str, int], EvaluationRow]) -> dict[str, Any]:
    offered: dict[tuple[str, str], list[EvaluationRow]] = {}
    for row in evaluations.values():
        offered.setdefault((row.segment_id, row.episode_set), []).append(row)
    arms = dict(inputs["arms"])
    for name, arm in arms.items():
        if isinstance(arm, list):
            arms[name] = [seed | {"offered": offered.get((seed["segment"], seed["episode_set"]), [])} for seed in arm]
        if isinstance(arm, dict) and "evaluation" in arm:
            row = evaluations[arm["segment"], arm["episode_set"], arm["evaluation"]]
            arms[name] = arm | {"sparse_returns": row.sparse_returns, "progress": row.progresses}
    return inputs | {"arms": arms}


def _statistics(
    comparison: ComparisonRow, evaluations: dict[tuple[str, str, int], EvaluationRow], recompute: Recompute
) -> list[Finding]:
    try:
        inputs = _with_episodes(comparison.inputs, evaluations)
        again = recompute(comparison.purpose, inputs, comparison.settings)
    except Exception as error:  # noqa: BLE001 - whatever the tampered numbers do to it is the finding
        return [Finding("comparisons", comparison.id, f"its statistics cannot be computed again: {error}")]
    return [
        Finding("comparisons", comparison.id, f"{where} is {found}, computed again it is {expected}")
        for where, found, expected in _differences("", comparison.result, again)
    ]


def _differences(where: str, found: Any, expected: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(expected, dict):
        names = list(dict.fromkeys([*found, *expected]))
        parts = [(f"{where}.{name}".lstrip("."), found.get(name), expected.get(name)) for name in names]
    elif isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)) and len(found) == len(expected):
        parts = [(f"{where}[{index}]", *pair) for index, pair in enumerate(zip(found, expected, strict=True))]
    else:
        return [] if _same(found, expected) else [(where, found, expected)]
    return [difference for part in parts for difference in _differences(*part)]


def _same(found: Any, expected: Any) -> bool:
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (found, expected))
    if numbers:
        return math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(found == expected)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)

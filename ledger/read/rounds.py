"""The rounds of a session as rows: what a resume reads back, and nothing computed from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionRow, VerdictRow


@dataclass(frozen=True)
class LaunchedRow:
    """A branch as it was launched."""

    id: str
    refinement: int
    purpose: str
    arm: str
    segments: tuple[str, ...]
    """Segment ids by position; of a screen with rungs, those of all its rungs."""
    reason: str
    """Why its candidate is confirmed where the ranking does not have it first; empty otherwise."""


@dataclass(frozen=True)
class RoundRows:
    """What one round has written so far, each kind in the order of writing."""

    number: int
    diagnosis_id: str | None
    diagnosis: dict[str, Any] | None
    proposals: list[dict[str, Any]]
    """The bodies, one per refinement."""
    branches: list[LaunchedRow]
    comparisons: list[ComparisonRow]
    """Screens, confirmations, and the probation of what this round promoted."""
    verdicts: list[VerdictRow]
    decision: DecisionRow | None


def round_rows(reader: Reader, session: str) -> list[RoundRows]:
    """The rounds of a session that have written anything, in their order."""
    identity = reader.session_id(session)

    def rows(table: str, made: Callable[[dict[str, Any]], Any]) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for row in reader.rows(f"SELECT * FROM {table} WHERE session_id = ? ORDER BY event_seq", (identity,)):
            found.setdefault(row["round"], []).append(made(row))
        return found

    segments: dict[str, list[str]] = {}
    for row in reader.rows("SELECT * FROM branch_segments WHERE session_id = ? ORDER BY position", (identity,)):
        segments.setdefault(row["branch_id"], []).append(row["segment_id"])

    def launched(row: dict[str, Any]) -> LaunchedRow:
        own = tuple(segments.get(row["id"], ()))
        return LaunchedRow(row["id"], row["refinement"], row["purpose"], row["arm"], own, row["reason"] or "")

    diagnoses, proposals = rows("diagnoses", dict), rows("proposals", lambda row: reader.object(row["body"]))
    branches, comparisons = rows("branches", launched), rows("comparisons", reader.comparison)
    verdicts, decisions = rows("verdicts", reader.verdict), rows("decisions", reader.decision)

    def written(number: int) -> RoundRows:
        diagnosis = next(iter(diagnoses.get(number, [])), None)
        return RoundRows(
            number,
            diagnosis_id=diagnosis and diagnosis["id"],
            diagnosis=diagnosis and reader.object(diagnosis["body"]),
            proposals=proposals.get(number, []),
            branches=branches.get(number, []),
            comparisons=comparisons.get(number, []),
            verdicts=verdicts.get(number, []),
            decision=next(iter(decisions.get(number, [])), None),
        )

    return [written(each) for each in sorted({*diagnoses, *proposals, *branches, *comparisons, *verdicts, *decisions})]

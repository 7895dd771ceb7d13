"""The fates of candidates: those stored, and whether they follow from the verdicts and decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from learning_signal.ledger.read.forecasts import measured
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import Finding, VerdictRow
from learning_signal.ledger.read.rounds import RoundRows, round_rows

JUDGED = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
"""By the outcome of its verdict, the fate of a candidate that no decision has promoted."""


@dataclass(frozen=True)
class FateRow:
    """The fate of a candidate at the end of a round."""

    candidate_id: str
    round: int
    fate: str
    reason: str


def stored_fates(reader: Reader, session: str) -> list[FateRow]:
    """The fates of a session's candidates, round by round; none in a ledger of version 1 or 2."""
    if not reader.has_table("fates"):
        return []
    rows = reader.rows(
        "SELECT candidate_id, round, fate, reason FROM fates WHERE session_id = ? ORDER BY round, rowid", (session,)
    )
    return [FateRow(**row) for row in rows]


def fates_of(reader: Reader, candidates: Sequence[str]) -> dict[str, FateRow]:
    """What has become of each of these candidates, by id; those without a stored fate are left out."""
    rows = reader.rows_with("fates", "candidate_id", candidates) if reader.has_table("fates") else []
    names = [field.name for field in fields(FateRow)]
    fates = sorted((FateRow(**{name: row[name] for name in names}) for row in rows), key=lambda each: each.round)
    return {each.candidate_id: each for each in fates}  # the last counts


@dataclass(frozen=True)
class Attempt:
    """A shaping that a session compared with the control, and what became of it."""

    round: int
    stage: str | None
    """The label of the diagnosis; None where there was none."""
    shaping: dict[str, Any]
    fate: str
    measured_by: str
    """confirm or screen: what the differences are of."""
    sparse_return: float | None
    """Candidate minus control."""
    progress: float | None
    level: float | None
    """What p of its confirmation was compared with; None where it was not tested."""


def attempts_of(reader: Reader, session: str) -> list[Attempt]:
    """What a session compared with its control, by its stored fates, in the order of the proposals."""
    identity, comparisons = reader.session_id(session), reader.comparisons(session)
    fates = {row.candidate_id: row.fate for row in stored_fates(reader, identity)}  # the last counts
    levels = {each.candidate_id: each.result for each in comparisons if each.purpose == "confirm"}
    attempts = []
    for row in reader.rows(
        "SELECT c.id, c.shaping, p.round, p.refinement, (SELECT stage FROM diagnoses d "
        "WHERE d.session_id = p.session_id AND d.round = p.round) stage "
        "FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ? ORDER BY p.event_seq, c.rowid",
        (identity,),
    ):
        place = (row["round"], row["refinement"])
        found = {name: measured(comparisons, row["id"], place, name) for name in ("sparse_return", "progress")}
        by = next((purpose for _, purpose in found.values() if purpose is not None), None)
        if by is None or row["id"] not in fates:
            continue
        tested = levels.get(row["id"], {})
        attempts.append(
            Attempt(
                row["round"],
                row["stage"],
                reader.object(row["shaping"]),
                fates[row["id"]],
                by,
                found["sparse_return"][0],
                found["progress"][0],
                tested.get("level", tested.get("alpha")),
            )
        )
    return attempts


def check_fates(reader: Reader) -> list[Finding]:
    """Whether every stored fate follows from the verdicts and decisions, and whether one is missing."""
    return [finding for session in reader.session_ids() for finding in _of_session(reader, session)]


def _of_session(reader: Reader, session: str) -> Iterator[Finding]:
    stored = {(row.candidate_id, row.round): row for row in stored_fates(reader, session)}
    if not stored:
        return
    rounds = round_rows(reader, session)
    expected = _expected(rounds, _proposed(reader, session))
    for (candidate, number), row in stored.items():
        fate, reason = expected.get((candidate, number), (None, None))
        if fate is None:
            problem = f"says {row.fate} since round {number}, but no verdict or decision of that round is about it"
            yield Finding("fates", candidate, problem)
        elif row.fate != fate:
            yield Finding("fates", candidate, f"says {row.fate}, verdict and decision of round {number} make it {fate}")
        elif reason is not None and row.reason != reason:
            yield Finding("fates", candidate, f"says {row.fate} for another reason than round {number} has for it")
    # The rounds before the first stored fate may be older than the table; those of the last may still be to come.
    first, last = min(number for _, number in stored), max((one.number for one in rounds if one.decision), default=0)
    begun = {number for _, number in stored}
    for candidate, number in sorted(expected.keys() - stored.keys()):
        if first <= number < last or number in begun:
            yield Finding("fates", candidate, f"has none of round {number}, expected {expected[candidate, number][0]}")


def _proposed(reader: Reader, session: str) -> dict[tuple[int, int], dict[str, str]]:
    """By round and refinement, the ids of the candidates by name."""
    proposed: dict[tuple[int, int], dict[str, str]] = {}
    for row in reader.rows(
        "SELECT c.id, c.name, p.round, p.refinement FROM candidates c JOIN proposals p ON p.id = c.proposal_id "
        "WHERE p.session_id = ?",
        (session,),
    ):
        proposed.setdefault((row["round"], row["refinement"]), {})[row["name"]] = row["id"]
    return proposed


def _expected(
    rounds: Sequence[RoundRows], proposed: Mapping[tuple[int, int], Mapping[str, str]]
) -> dict[tuple[str, int], tuple[str, str | None]]:
    """By candidate and round, fate and reason; the reason is None for a candidate that no verdict is about."""
    expected: dict[tuple[str, int], tuple[str, str | None]] = {}
    promoted: dict[int, str] = {}
    for one in rounds:
        if one.decision is None:
            continue
        for verdict in one.verdicts:
            judged = {
                each.candidate_id: each.result
                for each in one.comparisons
                if (each.purpose, each.refinement) == ("confirm", verdict.refinement)
                and each.event_seq < verdict.event_seq
            }
            for name, candidate in proposed[one.number, verdict.refinement].items():
                if candidate == verdict.candidate_id:
                    expected[candidate, one.number] = JUDGED[verdict.outcome], verdict.reason
                elif candidate in judged:
                    result = judged[candidate]
                    expected[candidate, one.number] = JUDGED[result["outcome"]], result["reason"]
                else:
                    expected[candidate, one.number] = _unjudged(one, verdict, name), None
        if one.decision.action == "promote" and one.decision.candidate_id is not None:
            candidate = promoted[one.number] = one.decision.candidate_id
            expected[candidate, one.number] = "promoted", expected[candidate, one.number][1]
        elif one.decision.action == "roll_back" and one.decision.comparison_id is not None:
            failed = {each.id: each for earlier in rounds for each in earlier.comparisons}[one.decision.comparison_id]
            expected[promoted[failed.round], one.number] = "rolled back", failed.result["reason"]
    return expected


def _unjudged(rows: RoundRows, verdict: VerdictRow, name: str) -> str:
    """The fate of a candidate that no confirmation of its refinement is about."""
    screens = [
        each.result
        for each in rows.comparisons
        if each.purpose == "screen"
        and each.refinement == verdict.refinement
        and name in [arm["name"] for arm in each.result["arms"]]
    ]
    led = bool(screens) and screens[-1]["chosen"] == name
    return "not compared" if not screens or led and verdict.candidate_id is None else "screened out"

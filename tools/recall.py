"""Resume: the rounds and HEAD of a session, read back from the rows that `tools.round.record` wrote.

The cursor keeps what no row holds: phase and step, the conversation, the progress of the twin, and the trigger and
messages of the round in progress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionRow, VerdictRow
from learning_signal.ledger.read.rounds import LaunchedRow, RoundRows, round_rows
from learning_signal.ledger.read.training import MainRunRow, SegmentRow
from learning_signal.marl.gate.screening import ScreenResult
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.contracts import Decision, Diagnosis, Proposal
from learning_signal.tools.round.branches import values_of
from learning_signal.tools.round.fates import fates_of, history_row, level_spent, with_fate, with_fates
from learning_signal.tools.round.screens import screen_of
from learning_signal.tools.round.verdicts import numbers_of
from learning_signal.tools.state import (
    CONTROL,
    Branch,
    Head,
    HistoryRow,
    Probation,
    Regression,
    RoundFacts,
    Screen,
    SessionState,
    Tried,
    VerdictRecord,
)


def recalled(reader: Reader, session: str, cursor: SessionState, gate: GateSettings) -> SessionState:
    """``cursor`` with the facts in the session's rows, which replace any that the cursor itself has.

    ``session`` is its whole id; ``gate`` are its settings, by which the rungs of a screen are told apart. Raises
    pydantic's ``ValidationError`` where a row is not one of this version, ``LedgerError`` where one is missing.
    """
    screen_seeds = _seeds_of_a_rung(gate)
    rows, moves = round_rows(reader, session), reader.main_run(session)
    decisions = [one.decision for one in rows if one.decision is not None]
    present = cursor.round
    now = None if present is None else present.number
    try:
        facts = {one.number: _facts(session, one, screen_seeds) for one in rows}
        if present is not None:
            known = dict(facts.get(present.number, RoundFacts(number=present.number)))
            known["regression"] = _regression(rows, moves, decisions, present.number)
            present = present.model_copy(update=known)
        found = {
            "round": present,
            "head": _head(moves, decisions),
            "before": _at(moves[0].segment, ShapingConfig.none()) if moves else None,
            "probation": _probation(moves, decisions),
            "tried": _tried(rows, facts),
            "history": [_history_row(facts[each.round], each) for each in decisions if each.round != now],
            "branches": sum(len(one.branches) for one in rows),
            "comparisons": sum(len(one.comparisons) for one in rows),
            "level_spent": level_spent(facts.values()),
        }
    except LookupError as error:
        raise LedgerError(
            f"The ledger {reader.path} lacks a row that others of session {session} rest on, and without it the "
            "session cannot go on: see what 'log verify' finds."
        ) from error
    return cursor.model_copy(update=found)


def past_round(reader: Reader, session: str, number: int, gate: GateSettings) -> RoundFacts | None:
    """The facts of round ``number`` of a session as its rows have them; None where it wrote none."""
    rows = next((each for each in round_rows(reader, session) if each.number == number), None)
    return None if rows is None else _facts(session, rows, _seeds_of_a_rung(gate))


def _seeds_of_a_rung(gate: GateSettings) -> int | None:
    """None where a screen has one rung: that may be given further seeds."""
    return gate.screen_seeds if gate.screen_halvings else None


def head_of(reader: Reader, session: str) -> Head | None:
    """Where the main run of the session stands; None before its first stage has ended."""
    return _head(reader.main_run(session), reader.decisions(session))


def _facts(session: str, rows: RoundRows, screen_seeds: int | None) -> RoundFacts:
    confirmations = [_confirmation(each) for each in rows.comparisons if each.purpose == "confirm"]
    left_out = rows.diagnosis is None or not rows.diagnosis["failures"]
    return RoundFacts(
        number=rows.number,
        diagnosis=None if left_out else Diagnosis.model_validate(rows.diagnosis),
        diagnosis_id=rows.diagnosis_id,
        proposals=[Proposal.model_validate(each) for each in rows.proposals],
        branches=_branches(rows.branches, screen_seeds),
        screens=[_screen(each) for each in rows.comparisons if each.purpose == "screen"],
        confirmations=confirmations,
        verdicts=[_verdict(each, confirmations) for each in rows.verdicts],
        decision=rows.decision and _decision(rows.decision),
    )


def _branches(rows: Sequence[LaunchedRow], screen_seeds: int | None) -> list[Branch]:
    """Confirmations are made one after the other, so an arm's first confirm branch is of the first, and so on."""
    attempts = {"control": 0, "candidate": 0}
    found = []
    for row in rows:
        arm, attempt = "control" if row.arm == CONTROL else "candidate", 0
        if row.purpose == "confirm":
            attempt, attempts[arm] = attempts[arm], attempts[arm] + 1
        found.append(_branch(row, screen_seeds, attempt))
    return found


def _branch(row: LaunchedRow, screen_seeds: int | None, attempt: int) -> Branch:
    rung = len(row.segments) // screen_seeds - 1 if row.purpose == "screen" and screen_seeds else 0
    return Branch.model_validate(
        {
            "name": _name(row.id),
            "arm": row.arm,
            "purpose": row.purpose,
            "refinement": row.refinement,
            "segments": row.segments[rung * (screen_seeds or 0) :],
            "rung": rung,
            "attempt": attempt,
            "reason": row.reason,
        }
    )


def _screen(row: ComparisonRow) -> Screen:
    result = ScreenResult.model_validate(row.result)
    rung, extended = row.inputs.get("rung", 0), row.inputs.get("extended", "")
    return screen_of(_name(row.id), row.refinement, rung, result, row.inputs["arms"], extended)


def _values(row: ComparisonRow) -> dict[str, Any]:
    """Both measures of both arms of a confirmation, branch by branch."""
    (candidate,) = (arm for arm in row.inputs["arms"] if arm != CONTROL)
    arms = {"candidate": row.inputs["arms"][candidate], "control": row.inputs["arms"][CONTROL]}
    return {name: values_of(seeds) for name, seeds in arms.items()}


def _confirmation(row: ComparisonRow) -> VerdictRecord:
    """What a confirmation computed."""
    return VerdictRecord.model_validate(
        {name: row.result.get(name) for name in ("outcome", "measure", "reason", "p")}
        | numbers_of(row.result)
        | {
            "id": row.id,
            "refinement": row.refinement,
            "candidate": _name(row.candidate_id),
            "difference": row.result.get("mean_difference"),
            "comparison": _name(row.id),
            "values": _values(row),
        }
    )


def _verdict(row: VerdictRow, confirmations: Sequence[VerdictRecord]) -> VerdictRecord:
    comparison = _name(row.comparison_id)
    judged = next((each for each in confirmations if each.comparison == comparison), None)
    return VerdictRecord.model_validate(
        {name: getattr(row, name) for name in ("id", "refinement", "outcome", "measure", "reason", "reading")}
        | {
            "candidate": _name(row.candidate_id),
            "p": judged and judged.p,
            **(judged.model_dump(include={*numbers_of({}), "values"}) if judged else {}),
            "difference": judged and judged.difference,
            "comparison": comparison,
        }
    )


def _decision(row: DecisionRow) -> Decision:
    """The row names the candidate of the last verdict too; a decision names the one it promotes."""
    promoted = _name(row.candidate_id) if row.action == "promote" else None
    given = {"action": row.action, "candidate": promoted, "reason": row.reason, "decided_by": row.decided_by}
    return Decision.model_validate(given)


def _history_row(facts: RoundFacts, row: DecisionRow) -> HistoryRow:
    return history_row(facts, _decision(row), ShapingConfig.model_validate(row.shaping_to))


def _tried(rows: Sequence[RoundRows], facts: Mapping[int, RoundFacts]) -> list[Tried]:
    """What became of every candidate: by its verdict, and by the decisions since."""
    tried: list[Tried] = []
    promoted: dict[int, str] = {}
    for one in rows:
        for row, verdict in zip(one.verdicts, facts[one.number].verdicts, strict=True):
            tried = with_fates(tried, fates_of(_as_of(row, facts[one.number], one), verdict))
        decision = one.decision
        if decision is not None and decision.action == "promote":
            promoted[one.number] = _decision(decision).promoted
            tried = with_fate(tried, one.number, promoted[one.number], "promoted")
        elif decision is not None and decision.action == "roll_back":
            failed = {each.id: each for earlier in rows for each in earlier.comparisons}[decision.comparison_id or ""]
            tried = with_fate(tried, failed.round, promoted[failed.round], "rolled back", failed.result["reason"])
    return tried


def _as_of(verdict: VerdictRow, facts: RoundFacts, rows: RoundRows) -> RoundFacts:
    """The facts of a round at the moment of a verdict: without what was screened or confirmed later."""
    before = {_name(each.id) for each in rows.comparisons if each.event_seq < verdict.event_seq}
    known = [each for each in facts.confirmations if each.comparison in before]
    screens = [each for each in facts.screens if each.comparison in before]
    return facts.model_copy(update={"confirmations": known, "screens": screens})


def _head(moves: Sequence[MainRunRow], decisions: Sequence[DecisionRow]) -> Head | None:
    if not moves:
        return None
    return _at(moves[-1].segment, decisions[-1].shaping_to if decisions else ShapingConfig.none())


def _at(segment: SegmentRow, shaping: ShapingConfig | dict[str, Any]) -> Head:
    return Head.model_validate({"segment": segment.id, "env_steps": segment.end_env_steps, "shaping": shaping})


def _before(moves: Sequence[MainRunRow], promotion: DecisionRow) -> Head:
    """Where HEAD was before a promotion."""
    return _at({move.segment.id: move.segment for move in moves}[promotion.segment_from], promotion.shaping_from)


def _probation(moves: Sequence[MainRunRow], decisions: Sequence[DecisionRow]) -> Probation | None:
    """The last promotion, until the stage that follows it has ended: then it is judged, or left."""
    last = decisions[-1] if decisions else None
    if last is None or last.action != "promote" or any((m.reason, m.round) == ("stage", last.round) for m in moves):
        return None
    return Probation(round=last.round, candidate=_decision(last).promoted, parent=_before(moves, last))


def _regression(
    rows: Sequence[RoundRows], moves: Sequence[MainRunRow], decisions: Sequence[DecisionRow], number: int
) -> Regression | None:
    """What round ``number``, the last, is to undo: a promotion judged since the round before, and not held."""
    since = max((each.event_seq for each in decisions if each.round != number), default=0)
    judged = [
        each for one in rows for each in one.comparisons if each.purpose == "probation" and each.event_seq > since
    ]
    if not judged or judged[-1].result["outcome"] == "held":
        return None
    failed, promotions = judged[-1], {each.round: each for each in decisions}
    promotion = promotions[failed.round]
    return Regression(
        round=failed.round,
        candidate=_decision(promotion).promoted,
        parent=_before(moves, promotion),
        comparison=_name(failed.id),
        reason=failed.result["reason"],
    )


@overload
def _name(identity: str) -> str: ...


@overload
def _name(identity: None) -> None: ...


def _name(identity: str | None) -> str | None:
    """What the agents call the row with this id."""
    return None if identity is None else identity.rpartition("/")[2]

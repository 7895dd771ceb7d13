"""Verdicts: what the statistics of a refinement come to, with the Validator's reading, and each candidate's fate."""

from __future__ import annotations

import json

from tools.base import Answer, Tool, ToolRefused
from tools.contracts import Candidate, Validation
from tools.desk import Desk
from tools.state import Screen, Tried, VerdictRecord


def verdict_tools(desk: Desk) -> dict[str, Tool]:
    """The tool a verdict is submitted with."""

    async def submit_validation(arguments: Validation) -> Answer:
        computed = computed_verdict(desk)
        if (arguments.candidate, arguments.outcome) != (computed.candidate, computed.outcome):
            raise ToolRefused(
                f"Found {arguments.outcome} for {arguments.candidate}, but the computed verdict is "
                f"{computed.outcome} for {computed.candidate}: submit that, and put your doubts into the reading."
            )
        verdict = computed.model_copy(update={"reading": arguments.reading})
        text = json.dumps({"accepted": True, "outcome": verdict.outcome})
        return Answer(text, lambda: record_verdict(desk, verdict, "validator"))

    return {
        "submit_validation": Tool(
            "submit_validation",
            "End your phase: the verdict exactly as computed and your reading of it. candidate null and inconclusive "
            "if nothing could be compared.",
            Validation, submit_validation, ends_phase=True,
        ),
    }


def computed_verdict(desk: Desk) -> VerdictRecord:
    """The verdict of the present refinement as computed; ``ToolRefused`` while a comparison is still owed."""
    refinement = desk.state.refinement
    identity = desk.row_id(f"V{desk.round.number}.{refinement}")
    for confirmation in desk.round.confirmations:
        if confirmation.refinement == refinement:
            return VerdictRecord(
                id=identity, refinement=refinement, candidate=confirmation.candidate, outcome=confirmation.outcome,
                rule=confirmation.rule, reason=confirmation.reason, reading="", p=confirmation.p,
                difference=confirmation.difference,
            )
    screens = [screen for screen in desk.round.screens if screen.refinement == refinement]
    if screens and screens[-1].goes_on is None and screens[-1].chosen is None:
        notes = {name: note for screen in screens for name, note in screen.notes.items()}
        return VerdictRecord(
            id=identity, refinement=refinement, candidate=None, outcome="inconclusive", rule=None,
            reason="No candidate could be compared with the control: "
            + "; ".join(f"{name} {note}" for name, note in notes.items()) + ".",
            reading="",
        )
    raise ToolRefused(
        "Found no comparison for a verdict, expected compare_branches with purpose 'confirm' (after the screen): "
        "launch, read and compare first."
    )


def record_verdict(desk: Desk, verdict: VerdictRecord, agent: str | None) -> None:
    """Write a verdict and what became of every candidate of this refinement."""
    number = desk.round.number
    comparison = next((each.comparison for each in desk.round.confirmations
                       if each.refinement == verdict.refinement), None)
    seq = desk.event(
        "verdict", f"{verdict.candidate or 'no candidate'}: {verdict.reason}", agent=agent,
        ref=("verdicts", verdict.id),
    )
    desk.ledger.add(
        "verdicts", id=verdict.id, session_id=desk.session, round=number, refinement=verdict.refinement,
        candidate_id=desk.candidate_id(verdict.candidate), comparison_id=comparison and desk.row_id(comparison),
        event_seq=seq, outcome=verdict.outcome, rule=verdict.rule, reason=verdict.reason, reading=verdict.reading,
    )
    desk.round.verdicts.append(verdict)
    screens = [each for each in desk.round.screens if each.refinement == verdict.refinement]
    for candidate in desk.round.proposals[-1].candidates:
        last = next((each for each in reversed(screens) if candidate.name in each.differences), None)
        desk.state.tried.append(_fate(number, candidate, verdict, last))


def _fate(number: int, candidate: Candidate, verdict: VerdictRecord, screen: Screen | None) -> Tried:
    """What became of one candidate of the refinement that ``verdict`` closes; ``screen`` is the last rung it was in."""
    name, rule, difference = candidate.name, None, None
    if name == verdict.candidate:
        outcome = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}[verdict.outcome]
        rule, difference, reason = verdict.rule, verdict.difference, verdict.reason
    elif screen is None:
        outcome, reason = "not compared", "no comparison was made"
    else:
        rule, difference = screen.measure, screen.differences[name]
        if name == screen.chosen:
            outcome, reason = "not compared", "it led the screen, but no confirmation was judged"
        elif difference is None:
            outcome, reason = "screened out", screen.notes[name]
        else:
            leader, best = next(iter(screen.differences.items()))
            outcome = "screened out"
            reason = f"behind {leader} in the screen: {difference:+.3g} against {best:+.3g} of {rule}"
    return Tried(
        round=number, candidate=name, shaping=candidate.shaping, outcome=outcome, rule=rule, difference=difference,
        reason=reason,
    )

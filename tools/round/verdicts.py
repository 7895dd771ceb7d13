"""Verdicts: what the statistics of a refinement come to, with the Validator's reading, and each candidate's fate."""

from __future__ import annotations

import json

from learning_signal.marl.gate.measure import words
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate, Validation
from learning_signal.tools.state import Screen, Tried, VerdictRecord


def verdict_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool a verdict is submitted with."""

    async def submit_validation(arguments: Validation) -> Answer:
        computed = computed_verdict(context)
        if (arguments.candidate, arguments.outcome) != (computed.candidate, computed.outcome):
            raise ToolRefused(
                f"Found {arguments.outcome} for {arguments.candidate}, but the computed verdict is "
                f"{computed.outcome} for {computed.candidate}: submit that, and put your doubts into the reading.",
                code="verdict",
                candidate=computed.candidate,
                outcome=computed.outcome,
            )
        verdict = computed.model_copy(update={"reading": arguments.reading})
        text = json.dumps({"accepted": True, "outcome": verdict.outcome})
        return Answer(text, lambda: record_verdict(context, verdict, "validator"))

    return {
        "submit_validation": Tool(
            "submit_validation",
            "End your phase: the verdict exactly as computed and your reading of it. candidate null and inconclusive "
            "if nothing could be compared.",
            Validation,
            submit_validation,
            ends_phase=True,
        )
    }


def computed_verdict(context: SessionContext) -> VerdictRecord:
    """The verdict of the present refinement as computed; ``ToolRefused`` while a comparison is still owed."""
    refinement = context.state.refinement
    identity = context.row_id(f"V{context.round.number}.{refinement}")
    for confirmation in context.round.confirmations:
        if confirmation.refinement == refinement:
            return VerdictRecord(
                id=identity,
                refinement=refinement,
                candidate=confirmation.candidate,
                outcome=confirmation.outcome,
                measure=confirmation.measure,
                reason=confirmation.reason,
                reading="",
                p=confirmation.p,
                difference=confirmation.difference,
            )
    screens = [screen for screen in context.round.screens if screen.refinement == refinement]
    if screens and screens[-1].goes_on is None and screens[-1].chosen is None:
        notes = {name: note for screen in screens for name, note in screen.notes.items()}
        return VerdictRecord(
            id=identity,
            refinement=refinement,
            candidate=None,
            outcome="inconclusive",
            measure=None,
            reason="No candidate could be compared with the control: "
            + "; ".join(f"{name} {note}" for name, note in notes.items())
            + ".",
            reading="",
        )
    raise ToolRefused(
        "Found no comparison for a verdict, expected compare_branches with purpose 'confirm' (after the screen): "
        "launch, read and compare first."
    )


def record_verdict(context: SessionContext, verdict: VerdictRecord, agent: str | None) -> None:
    """Write a verdict and what became of every candidate of this refinement."""
    number = context.round.number
    comparison = next(
        (each.comparison for each in context.round.confirmations if each.refinement == verdict.refinement), None
    )
    seq = context.event(
        "verdict", f"{verdict.candidate or 'no candidate'}: {verdict.reason}", agent=agent, ref=("verdicts", verdict.id)
    )
    context.ledger.add(
        "verdicts",
        id=verdict.id,
        session_id=context.session,
        round=number,
        refinement=verdict.refinement,
        candidate_id=context.candidate_id(verdict.candidate),
        comparison_id=comparison and context.row_id(comparison),
        event_seq=seq,
        outcome=verdict.outcome,
        rule=verdict.measure,
        reason=verdict.reason,
        reading=verdict.reading,
    )
    context.round.verdicts.append(verdict)
    screens = [each for each in context.round.screens if each.refinement == verdict.refinement]
    for candidate in context.round.proposals[-1].candidates:
        last = next((each for each in reversed(screens) if candidate.name in each.differences), None)
        context.state.tried.append(_fate(number, candidate, verdict, last))


def _fate(number: int, candidate: Candidate, verdict: VerdictRecord, screen: Screen | None) -> Tried:
    """What became of one candidate of the refinement that ``verdict`` closes; ``screen`` is the last rung it was in."""
    name, measure, difference = candidate.name, None, None
    if name == verdict.candidate:
        outcome = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}[verdict.outcome]
        measure, difference, reason = verdict.measure, verdict.difference, verdict.reason
    elif screen is None:
        outcome, reason = "not compared", "no comparison was made"
    else:
        measure, difference = screen.measure, screen.differences[name]
        if name == screen.chosen:
            outcome, reason = "not compared", "it led the screen, but no confirmation was judged"
        elif difference is None:
            outcome, reason = "screened out", screen.notes[name]
        else:
            leader, best = next(iter(screen.differences.items()))
            outcome = "screened out"
            reason = f"behind {leader} in the screen: {difference:+.3g} against {best:+.3g} of {words(measure)}"
    return Tried(
        round=number,
        candidate=name,
        shaping=candidate.shaping,
        outcome=outcome,
        measure=measure,
        difference=difference,
        reason=reason,
    )

"""Verdicts: the outcome of a refinement's statistics, with the Validator's reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from learning_signal.marl.gate.confirmation import Verdict
from learning_signal.marl.gate.measure import MeasureName
from learning_signal.marl.gate.trial import Look
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.keep import checked
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Validation
from learning_signal.tools.round.confirmations import asked_for, in_progress, judged
from learning_signal.tools.round.record import record_verdict
from learning_signal.tools.state import VerdictRecord


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
        verdict = computed.model_copy(update={"id": verdict_id(context), "reading": arguments.reading})
        text = json.dumps({"accepted": True, "outcome": verdict.outcome})
        claim = checked(context, "verdicts", "validator", {"reading": arguments.reading})
        return Answer(text, lambda: record_verdict(context, verdict, "validator", claim))

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
    """The verdict of the present refinement's last confirmation; ``ToolRefused`` while a comparison is still owed."""
    refinement, known = context.state.refinement, judged(context)
    asked, present = asked_for(context), in_progress(context)
    if asked is not None:
        raise ToolRefused(
            f"Found no confirmation of {asked}, for which the Coordinator sent the round back: confirm {asked} first."
        )
    if present is not None:
        raise ToolRefused(
            f"Found a confirmation of {present} that is not judged, expected it to be before a verdict: call confirm "
            f"with {present}."
        )
    if known:
        return known[-1]
    screens = [screen for screen in context.round.screens if screen.refinement == refinement]
    if screens and screens[-1].goes_on is None and screens[-1].chosen is None:
        notes = {name: note for screen in screens for name, note in screen.notes.items()}
        failures = "; ".join(f"{name} {note}" for name, note in notes.items())
        why = f"No candidate could be compared with the control: {failures}."
        if any(difference is not None for difference in screens[-1].differences.values()):
            why = f"Nothing was confirmed: {screens[-1].reason}."
        return verdict_record(context, None, None, None, why)
    raise ToolRefused(
        "Found no comparison for a verdict, expected a confirmation: call confirm with a candidate first."
    )


def unreported(context: SessionContext) -> VerdictRecord | None:
    """The last confirmation of the present refinement that was judged and has no verdict yet, or None."""
    reported = {each.comparison for each in context.round.verdicts}
    return next((each for each in reversed(judged(context)) if each.comparison not in reported), None)


def verdict_record(
    context: SessionContext,
    verdict: Verdict | Look | None,
    candidate: str | None,
    comparison: str | None,
    reason: str = "",
    values: dict[str, dict[MeasureName, list[float | None]]] | None = None,
) -> VerdictRecord:
    """The record of a verdict in the present refinement; inconclusive for that ``reason`` where nothing was compared.

    ``values``: both measures of both arms, branch by branch.
    Its id is that of its comparison until it is reported, when `verdict_id` gives it one.
    """
    return VerdictRecord(
        id=verdict_id(context) if comparison is None else context.row_id(comparison),
        refinement=context.state.refinement,
        candidate=candidate,
        outcome="inconclusive" if verdict is None or verdict.outcome is None else verdict.outcome,
        measure=None if verdict is None else verdict.measure,
        reason=reason if verdict is None else verdict.reason,
        p=None if verdict is None else verdict.p,
        difference=None if verdict is None else verdict.mean_difference,
        comparison=comparison,
        values=values,
        **({} if verdict is None else numbers_of(verdict.model_dump())),
    )


def numbers_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a record has of the result of a confirmation besides its outcome: both judges give these, under two names.

    (A trial counts looks and has a level, where pairs are ``n`` and have an ``alpha``.)
    """
    return {name: result.get(name) for name in ("means", "size", "interval", "wins")} | {
        "level": result.get("level", result.get("alpha")),
        "n": result.get("look", result.get("n")),
    }


def verdict_id(context: SessionContext) -> str:
    """The id of the round's next verdict."""
    return context.row_id(f"V{context.round.number}.{len(context.round.verdicts)}")

"""A validation without its agent: what it has not had confirmed and judged is done by code, without choices."""

from __future__ import annotations

from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.round.comparisons import confirmed
from learning_signal.tools.round.confirmations import candidate_to_confirm
from learning_signal.tools.round.record_branches import record_confirmation
from learning_signal.tools.round.screens import owes_screen, run_screen
from learning_signal.tools.round.verdicts import computed_verdict, unreported, verdict_record
from learning_signal.tools.state import VerdictRecord


async def judge_by_code(context: SessionContext) -> VerdictRecord:
    """The verdict of the present refinement, after the confirmation that is still owed.

    Branches that are there are used. The screen's first is confirmed, or what the Coordinator asked for, or what an
    agent has begun. Everything is committed as it is done, so that a resume goes on behind it.
    """
    if owes_screen(context):
        await run_screen(context)
    try:
        return computed_verdict(context)
    except ToolRefused:
        pass
    try:
        await _confirm(context, candidate_to_confirm(context))
        return computed_verdict(context)
    except ToolRefused:
        return unreported(context) or verdict_record(context, None, None, None, "No comparison could be made.")


async def _confirm(context: SessionContext, candidate: str) -> None:
    found, trial = await confirmed(context, candidate)
    with context.ledger.transaction("confirmed by code"):
        record_confirmation(context, found, trial)
        context.ledger.save_cursor(context.session, context.state.model_dump(mode="json"))

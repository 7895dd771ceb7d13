"""The mechanical part of a validation, by code: what an agent has not launched and compared is done without choices."""

from __future__ import annotations

from typing import Any

from learning_signal.marl.gate.judge import Purpose
from learning_signal.tools.base import Tool, ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import CompareBranches, LaunchBranch
from learning_signal.tools.round.branches import branch_tools, rung_arms
from learning_signal.tools.round.comparisons import comparison_tools
from learning_signal.tools.round.confirmations import asked_for, candidate_to_confirm, in_progress, needs_screen
from learning_signal.tools.round.verdicts import computed_verdict, unreported, verdict_record
from learning_signal.tools.state import CONTROL, VerdictRecord

MOST_COMPARISONS = 40
"""More than the rungs of any screen and its confirmation: a loop beyond it is a fault of the program."""


async def judge_by_code(context: SessionContext) -> VerdictRecord:
    """The verdict of the present refinement, after the screen and the confirmation that are still owed.

    Branches that are there are used. The screen's first is confirmed, or what the Coordinator asked for, or what an
    agent has begun. Every launch and comparison is committed, so that a resume goes on behind it.
    """
    for _ in range(MOST_COMPARISONS):
        try:
            return computed_verdict(context)
        except ToolRefused:
            pass
        try:
            await _next_comparison(context)
        except ToolRefused:
            return unreported(context) or verdict_record(context, None, None, None, "No comparison could be made.")
    raise RuntimeError(f"found no verdict after {MOST_COMPARISONS} comparisons, expected one")


async def _next_comparison(context: SessionContext) -> None:
    """Launch what is missing of the next comparison, and make it."""
    purpose: Purpose = "screen" if _owes_screen(context) else "confirm"
    arms = rung_arms(context) if purpose == "screen" else [CONTROL, candidate_to_confirm(context)]
    tools = branch_tools(context) | comparison_tools(context)
    for arm in arms:
        await _carry_out(context, tools["launch_branch"], LaunchBranch(arm=arm, purpose=purpose))
    await _carry_out(context, tools["compare_branches"], CompareBranches(purpose=purpose))


def _owes_screen(context: SessionContext) -> bool:
    if not needs_screen(context) or in_progress(context) is not None or _is_asked(context):
        return False
    screens = [each for each in context.round.screens if each.refinement == context.state.refinement]
    return not screens or screens[-1].goes_on is not None


def _is_asked(context: SessionContext) -> bool:
    """Whether the Coordinator sent the round back, which it does after the screen."""
    try:
        return asked_for(context) is not None
    except ToolRefused:  # the screen is not over
        return False


async def _carry_out(context: SessionContext, tool: Tool, arguments: Any) -> None:
    answer = await tool.call(arguments)
    with context.ledger.transaction(f"{tool.name} by code"):
        if answer.apply is not None:
            answer.apply()
        context.ledger.save_cursor(context.session, context.state.model_dump(mode="json"))

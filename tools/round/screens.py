"""Screens: code trains every candidate beside the control, ranks them, and says who may be confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.screening import ScreenResult, rank_screen
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact, rounded
from learning_signal.tools.claims.keep import said
from learning_signal.tools.claims.objection import weighed
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import ExtendScreen
from learning_signal.tools.plan.cost import further_screen_seeds
from learning_signal.tools.round.branches import (
    begin,
    ensure_running,
    find_arm,
    measures,
    present_rung,
    rung_arms,
    screen_specs,
    values_of,
)
from learning_signal.tools.round.confirmations import further_seeds, needs_screen, refuse_further_seed, screen_over
from learning_signal.tools.round.record_branches import record_longer, record_screen
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch, Screen

Measured = Mapping[str, tuple[list[Measure], list[dict[str, Any]]]]
"""By arm, each seed's measure and where it came from."""


def owes_screen(context: SessionContext) -> bool:
    """Whether the present candidates are to be screened and are not yet."""
    return needs_screen(context) and screen_over(context) is None


async def run_screen(context: SessionContext) -> None:
    """Screen the present candidates, rung by rung, until the screen is over: all branches of a rung run at once.

    Every rung is recorded as it begins and as it is ranked; called again after a stop, it goes on where it was. Raises
    ``OutOfBudget`` before a rung that does not fit.
    """
    while owes_screen(context):
        await rank_rung(context)


async def rank_rung(context: SessionContext) -> Screen:
    """Train the arms of the present rung, rank them and record it."""
    rung = present_rung(context)
    branches = begin(context, rung_arms(context), "screen")
    measured = {branch.arm: await measures(context, branch, "screen") for branch in branches}
    result = _ranked(context, measured, rung)
    screen = screen_of(context.next_comparison, context.state.refinement, rung, result, _sources(measured))
    with context.ledger.transaction("screen ends"):
        record_screen(context, screen, _sources(measured), result)
    return screen


def screen_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that gives a screen further seeds."""

    async def extend_screen(arguments: ExtendScreen) -> Answer:
        return await _extend_screen(context, arguments)

    return {
        "extend_screen": Tool(
            "extend_screen",
            "After a screen that is close: train one more seed of the control and of the candidates named, and rank "
            "these anew; the others are out.",
            ExtendScreen,
            extend_screen,
            patient=True,
        )
    }


async def _extend_screen(context: SessionContext, arguments: ExtendScreen) -> Answer:
    """Rank the control and the named candidates on one seed more than they have."""
    refuse_further_seed(context, arguments.candidates)
    claim = weighed(context, "extend_screen", "events", "validator", {"reason": arguments.reason})
    arms = [_screened(context, arm) for arm in (CONTROL, *arguments.candidates)]
    seeds = max(len(branch.segments) for branch in arms if branch.arm != CONTROL)
    further = seeds + 1 - context.settings.gate.screen_seeds
    specs = {
        branch.arm: screen_specs(context, context.shaping_of(branch.arm), branch.refinement, further=further)
        for branch in arms
    }
    afford_segments(context, "a further seed of the screen", [each[-1] for each in specs.values()])
    longer = [
        branch.model_copy(
            update={"segments": tuple(context.trainer.launch(spec, "screen", branch.arm) for spec in specs[branch.arm])}
        )
        for branch in arms
    ]
    measured = {branch.arm: await measures(context, branch, "screen") for branch in longer}
    result = _ranked(context, measured, 0)
    comparison, refinement = context.next_comparison, context.state.refinement
    screen = screen_of(comparison, refinement, 0, result, _sources(measured), arguments.reason)

    def apply() -> None:
        record_longer(context, longer, arguments.reason)
        record_screen(context, screen, _sources(measured), result, further, claim)

    return Answer(compact(screen_card(context, screen) | further_card(context, 1)), apply)


def _screened(context: SessionContext, arm: str) -> Branch:
    branch = find_arm(context, "screen", arm)
    if branch is None:
        raise ToolRefused(f"Found no screen branch of {arm}, expected a candidate of the last screen: name another.")
    ensure_running(context, branch)
    return branch


def _ranked(context: SessionContext, measured: Measured, rung: int) -> ScreenResult:
    candidates = {arm: found for arm, (found, _) in measured.items() if arm != CONTROL}
    return rank_screen(measured[CONTROL][0], candidates, context.task.largest_return, context.settings.gate, rung)


def screen_of(
    comparison: str,
    refinement: int,
    rung: int,
    result: ScreenResult,
    sources: Mapping[str, Sequence[dict[str, Any]]],
    extended: str = "",
) -> Screen:
    """A ranked rung of a screen; ``sources`` say by arm where each seed's measure came from, or why it has none.

    ``extended``: why it was given a further seed.
    """
    return Screen(
        comparison=comparison,
        refinement=refinement,
        chosen=result.chosen,
        measure=result.measure,
        differences={arm.name: arm.mean_difference for arm in result.arms},
        notes={
            arm.name: arm.failure + _cause(sources[arm.name], sources[CONTROL])
            for arm in result.arms
            if arm.failure is not None
        },
        rung=rung,
        goes_on=result.goes_on,
        confirmable=result.confirmable,
        order=result.order,
        gains={arm.name: arm.gains for arm in result.arms if arm.gains is not None},
        values={arm: values_of(sources[arm]) for arm in (CONTROL, *(arm.name for arm in result.arms))},
        extended=extended,
        reason=result.reason,
    )


def _cause(*arms: Sequence[dict[str, Any]]) -> str:
    """Why the first failed seed of these arms failed, in brackets."""
    reasons = [source["reason"] for sources in arms for source in sources if source["reason"] is not None]
    return f" ({reasons[0]})" if reasons else ""


def screen_card(context: SessionContext, screen: Screen) -> dict[str, Any]:
    """A screen in full, as agents are told it: every arm, seed by seed in both measures, best first."""
    branches = {
        each.arm: each.name
        for each in context.round.branches
        if (each.purpose, each.refinement) == ("screen", screen.refinement)
    }

    def arm(name: str) -> dict[str, Any]:
        return {"branch": branches.get(name)} | {
            measure: [rounded(one) for one in column] for measure, column in screen.values.get(name, {}).items()
        }

    rungs = (
        {}
        if len(context.rungs) == 1
        else {"rung": f"{screen.rung + 1} of {len(context.rungs)}", "goes_on": screen.goes_on}
    )
    return (
        {
            "comparison": screen.comparison,
            "env_steps_per_branch": context.rungs[screen.rung],
            "measure": screen.measure,
            "control": arm(CONTROL),
            "ranking": [
                {"candidate": name, "difference": rounded(difference)}
                | {f"{measure}_gain": rounded(gain) for measure, gain in screen.gains.get(name, {}).items()}
                | arm(name)
                | ({"note": screen.notes[name]} if name in screen.notes else {})
                for name, difference in screen.differences.items()
            ],
            "chosen": screen.chosen,
        }
        | ({} if screen.order is None else {"ordered_by": screen.order.reason})
        | ({} if screen.confirmable is None else {"confirmable": screen.confirmable})
        | ({"extended": _extension(context, screen)} if screen.extended else {})
        | rungs
    )


def _extension(context: SessionContext, screen: Screen) -> dict[str, Any]:
    """Why a screen was given a further seed, with what the record does not support in it."""
    (row,) = context.ledger.find("comparisons", id=context.row_id(screen.comparison)) or ({"event_seq": None},)
    return said(context, "validator", screen.extended, "events", str(row["event_seq"]))


def further_card(context: SessionContext, more: int = 0) -> dict[str, Any]:
    """What `extend_screen` could still do, and what it would cost; ``more`` seeds are given and not recorded yet."""
    if not needs_screen(context) or not further_screen_seeds(context.settings):
        return {}
    left = max(further_seeds(context) - more, 0)
    return {"extend_screen": {"seeds_left": left, "env_steps_per_branch": context.screen_steps}}


def _sources(measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """By arm, where each seed's measure came from."""
    return {arm: sources for arm, (_, sources) in measured.items()}

"""Comparisons: the statistics of a screen and of a confirmation, computed by the gate and written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.judges import Purpose
from learning_signal.marl.gate.measure import Measure, later_half, later_half_mean
from learning_signal.marl.gate.screening import ScreenResult, rank_screen
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import CompareBranches
from learning_signal.tools.round.branches import chosen, ensure_running, find_arm, needs_screen, present_rung, rung_arms
from learning_signal.tools.round.record import record_confirmation, record_screen
from learning_signal.tools.round.verdicts import verdict_record
from learning_signal.tools.state import CONTROL, Branch, Screen


def comparison_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that compares branches."""

    async def compare_branches(arguments: CompareBranches) -> Answer:
        if arguments.purpose == "screen":
            return await _compare_screen(context)
        return await _compare_confirmation(context)

    return {
        "compare_branches": Tool(
            "compare_branches",
            "The statistics: ranks the screened candidates and chooses one (or says which go on to the next rung), or "
            "judges the confirmed one "
            "(pass, fail or inconclusive).",
            CompareBranches,
            compare_branches,
            patient=True,
        )
    }


async def _measures(
    context: SessionContext, branch: Branch, episode_set: str
) -> tuple[list[Measure], list[dict[str, Any]]]:
    """Each seed's measure on the gate's own episodes, and where it came from; a failed seed measures None."""
    measures, sources = [], []
    for segment in branch.segments:
        reason: str | None = None
        try:
            result: SegmentResult = await context.trainer.result(segment)
        except SegmentFailed as failure:
            measure, positions, reason = Measure(sparse_return=None, progress=None), [], str(failure)
        else:
            evaluations = [each for each in result.evaluations if each.set == episode_set]
            measure = later_half_mean(evaluations)
            positions = [evaluation.env_steps for evaluation in later_half(evaluations)]
        measures.append(measure)
        sources.append(
            {
                "segment": segment,
                "episode_set": episode_set,
                "evaluations": positions,
                "reason": reason,
                "sparse_return": measure.sparse_return,
                "progress": measure.progress,
            }
        )
    return measures, sources


def _arm(context: SessionContext, purpose: Purpose, arm: str) -> Branch:
    branch = find_arm(context, purpose, arm)
    rung = present_rung(context) if purpose == "screen" else 0
    if branch is None or branch.rung != rung:
        where = f" in rung {rung + 1} of {len(context.rungs)}" if rung else ""
        raise ToolRefused(
            f"Found no {purpose} branch of {arm}{where}, expected one: "
            f"launch_branch(arm={arm!r}, purpose={purpose!r}) first."
        )
    ensure_running(context, branch)
    return branch


async def _compare_screen(context: SessionContext) -> Answer:
    if not needs_screen(context):
        raise ToolRefused("Found a screen of one candidate, expected a confirmation: compare purpose 'confirm'.")
    rung = present_rung(context)
    earlier = [screen for screen in context.round.screens if screen.refinement == context.state.refinement]
    begun = any(
        branch.rung == rung for branch in context.round.branches if branch.refinement == context.state.refinement
    )
    if earlier and (earlier[-1].goes_on is None or not begun):
        return Answer(_screen_text(context, earlier[-1]))
    arms = {arm: _arm(context, "screen", arm) for arm in rung_arms(context)}
    measured = {arm: await _measures(context, branch, "screen") for arm, branch in arms.items()}
    candidates = {arm: measures for arm, (measures, _) in measured.items() if arm != CONTROL}
    result = rank_screen(measured[CONTROL][0], candidates, context.task.largest_return, context.settings.gate, rung)
    screen = screen_of(context.next_comparison, context.state.refinement, rung, result, _sources(measured))

    def apply() -> None:
        record_screen(context, screen, _sources(measured), result)

    return Answer(_screen_text(context, screen), apply)


def screen_of(
    comparison: str, refinement: int, rung: int, result: ScreenResult, sources: Mapping[str, Sequence[dict[str, Any]]]
) -> Screen:
    """A ranked rung of a screen; ``sources`` say by arm where each seed's measure came from, or why it has none."""
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
    )


def _cause(*arms: Sequence[dict[str, Any]]) -> str:
    """Why the first failed seed of these arms failed, in brackets."""
    reasons = [source["reason"] for sources in arms for source in sources if source["reason"] is not None]
    return f" ({reasons[0]})" if reasons else ""


def _screen_text(context: SessionContext, screen: Screen) -> str:
    rungs = (
        {}
        if len(context.rungs) == 1
        else {
            "rung": f"{screen.rung + 1} of {len(context.rungs)}",
            "goes_on": screen.goes_on,
            "next": "the screen is over"
            if screen.goes_on is None
            else f"launch_branch with purpose screen for control, {', '.join(screen.goes_on)}; "
            "read and compare them again",
        }
    )
    return json.dumps(
        {
            "comparison": screen.comparison,
            "purpose": "screen",
            "measure": screen.measure,
            "ranking": [
                {"candidate": name, "difference": rounded(difference), "note": screen.notes.get(name)}
                for name, difference in screen.differences.items()
            ],
            "chosen": screen.chosen,
        }
        | rungs
    )


async def _compare_confirmation(context: SessionContext) -> Answer:
    name = chosen(context)
    arms = {arm: _arm(context, "confirm", arm) for arm in (CONTROL, name)}
    episodes = context.settings.gate.judge.confirms_on
    measured = {arm: await _measures(context, branch, episodes) for arm, branch in arms.items()}
    control, candidate = measured[CONTROL][0], measured[name][0]
    declared = context.task.progress is not None
    verdict = judge(
        [each.sparse_return for each in control],
        [each.sparse_return for each in candidate],
        [each.progress for each in control] if declared else None,
        [each.progress for each in candidate] if declared else None,
        context.task.largest_return,
        context.settings.gate,
        context.settings.confirmations,
    )
    earlier = next((each for each in context.round.confirmations if each.refinement == context.state.refinement), None)
    comparison = context.next_comparison if earlier is None or earlier.comparison is None else earlier.comparison
    text = json.dumps(
        {
            "comparison": comparison,
            "purpose": "confirm",
            "candidate": name,
            "outcome": verdict.outcome,
            "measure": verdict.measure,
            "difference": rounded(verdict.mean_difference),
            "interval": verdict.interval and [rounded(bound) for bound in verdict.interval],
            "p": rounded(verdict.p),
            "alpha": rounded(verdict.alpha),
            "n": verdict.n,
            "reason": verdict.reason,
        }
    )

    def apply() -> None:
        confirmed = verdict_record(context, verdict, name, comparison)
        record_confirmation(context, comparison, confirmed, _sources(measured), verdict)

    return Answer(text, None if earlier else apply)


def _sources(measured: Mapping[str, tuple[list[Measure], list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """By arm, where each seed's measure came from."""
    return {arm: sources for arm, (_, sources) in measured.items()}

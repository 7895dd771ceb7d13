"""Comparisons: the statistics of a screen and of a confirmation, computed by the gate and written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.confirmation import judge
from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.gate.measure import Measure, MeasureName, later_half, later_half_mean
from learning_signal.marl.gate.screening import ScreenResult, rank_screen
from learning_signal.marl.gate.trial import judge_look
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import CompareBranches, ExtendScreen
from learning_signal.tools.round.branches import ensure_running, find_arm, present_rung, rung_arms, screen_specs
from learning_signal.tools.round.confirmations import (
    candidate_to_confirm,
    confirmable,
    further_seeds,
    in_progress,
    judged,
    needs_screen,
    next_level,
    offer,
    one_more,
    order_in_force,
    refuse_further_seed,
)
from learning_signal.tools.round.record_branches import Trial, record_confirmation, record_longer, record_screen
from learning_signal.tools.round.verdicts import verdict_record
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch, Screen, VerdictRecord


def comparison_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that compares branches."""

    async def compare_branches(arguments: CompareBranches) -> Answer:
        if arguments.purpose == "screen":
            return await _compare_screen(context)
        return await _compare_confirmation(context)

    async def extend_screen(arguments: ExtendScreen) -> Answer:
        return await _extend_screen(context, arguments)

    return {
        "compare_branches": Tool(
            "compare_branches",
            "The statistics: ranks the screened candidates and chooses one (or says which go on to the next rung), or "
            "judges the confirmed one "
            "(pass, fail or inconclusive).",
            CompareBranches,
            compare_branches,
            patient=True,
        ),
        "extend_screen": Tool(
            "extend_screen",
            "After a screen that is close: train one more seed of the control and of the candidates you name, and rank "
            "these anew; the others are out.",
            ExtendScreen,
            extend_screen,
            patient=True,
        ),
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
                "succeeded": measure.succeeded,
                "error": measure.error,
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


async def _extend_screen(context: SessionContext, arguments: ExtendScreen) -> Answer:
    """Rank the control and the named candidates on one seed more than they have."""
    refuse_further_seed(context, arguments.candidates)
    arms = [_arm(context, "screen", arm) for arm in (CONTROL, *arguments.candidates)]
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
    measured = {branch.arm: await _measures(context, branch, "screen") for branch in longer}
    candidates = {arm: measures for arm, (measures, _) in measured.items() if arm != CONTROL}
    result = rank_screen(measured[CONTROL][0], candidates, context.task.largest_return, context.settings.gate)
    screen = screen_of(context.next_comparison, context.state.refinement, 0, result, _sources(measured))

    def apply() -> None:
        record_longer(context, longer, arguments.reason)
        record_screen(context, screen, _sources(measured), result, further)

    return Answer(_screen_text(context, screen, more=1), apply)


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
        confirmable=result.confirmable,
        order=result.order,
        gains={arm.name: arm.gains for arm in result.arms if arm.gains is not None},
        reason=result.reason,
    )


def _cause(*arms: Sequence[dict[str, Any]]) -> str:
    """Why the first failed seed of these arms failed, in brackets."""
    reasons = [source["reason"] for sources in arms for source in sources if source["reason"] is not None]
    return f" ({reasons[0]})" if reasons else ""


def _screen_text(context: SessionContext, screen: Screen, more: int = 0) -> str:
    """What the Validator is told of a screen that has ``more`` seeds than are recorded."""
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
                {"candidate": name, "difference": rounded(difference)}
                | {f"{measure}_gain": rounded(gain) for measure, gain in screen.gains.get(name, {}).items()}
                | {"note": screen.notes.get(name)}
                for name, difference in screen.differences.items()
            ],
            "chosen": screen.chosen,
        }
        | ({} if screen.order is None else {"ordered_by": screen.order.reason})
        | ({} if screen.confirmable is None else _after_screen(context, screen, more))
        | rungs
    )


def _after_screen(context: SessionContext, screen: Screen, more: int) -> dict[str, Any]:
    """What the Validator may do after a screen, and what it would cost."""
    seeds = {"seeds_left": max(further_seeds(context) - more, 0), "env_steps_per_branch": context.screen_steps}
    return {"confirmable": screen.confirmable, "confirmation": offer(context), "extend_screen": seeds}


async def _compare_confirmation(context: SessionContext) -> Answer:
    name, known = in_progress(context), judged(context)
    if name is None and known:
        return Answer(_confirmation_text(context, known[-1]))
    name = candidate_to_confirm(context) if name is None else name
    branches = [_arm(context, "confirm", arm) for arm in (CONTROL, name)]
    trial = await (_trial if context.settings.gate.judge.sequential else _pairs)(context, branches)
    comparison = context.next_comparison
    confirmed = verdict_record(context, trial.verdict, name, comparison)
    text = _confirmation_text(context, confirmed)
    return Answer(text, lambda: record_confirmation(context, comparison, confirmed, trial))


async def _trial(context: SessionContext, branches: list[Branch]) -> Trial:
    """Look, and train one more branch of each arm, until the trial ends."""
    (order, source), level = order_in_force(context), next_level(context)
    while True:
        measured = {branch.arm: await _measures(context, branch, "confirm") for branch in branches}
        control, candidate = (measures for measures, _ in measured.values())
        look = judge_look(control, candidate, order, context.task.largest_return, context.settings.gate, level)
        if look.outcome is not None:
            beside = {"ordered_by": order.model_dump(mode="json"), "ordered_from": source, "level": level}
            return Trial(look, branches, _sources(measured), beside)
        branches = one_more(context, branches)


async def _pairs(context: SessionContext, branches: list[Branch]) -> Trial:
    """Judge all seeds at once."""
    episodes = context.settings.gate.judge.confirms_on
    measured = {branch.arm: await _measures(context, branch, episodes) for branch in branches}
    control, candidate = (measures for measures, _ in measured.values())
    declared, confirmations = context.task.progress is not None, context.settings.confirmations
    verdict = judge(
        [each.sparse_return for each in control],
        [each.sparse_return for each in candidate],
        [each.progress for each in control] if declared else None,
        [each.progress for each in candidate] if declared else None,
        context.task.largest_return,
        context.settings.gate,
        confirmations,
    )
    return Trial(verdict, branches, _sources(measured), {"confirmations": confirmations})


def _confirmation_text(context: SessionContext, record: VerdictRecord) -> str:
    """What the Validator is told of a judged confirmation."""
    numbers: dict[str, Any] = {"interval": _bounds(record.interval), "alpha": rounded(record.level), "n": record.n}
    if record.wins is not None and record.n is not None:
        numbers["wins"] = f"{record.wins} of {record.n**2} pairs of branches"
    means = {} if record.means is None else {"means": _rounded_means(record.means)}
    recorded = any(each.comparison == record.comparison for each in context.round.confirmations)
    pending = None if recorded else record
    further = offer(context, pending) | {"confirmable": list(_further(context, record))} if means else {}
    return json.dumps(
        {
            "comparison": record.comparison,
            "purpose": "confirm",
            "candidate": record.candidate,
            "outcome": record.outcome,
            "measure": record.measure,
            "difference": rounded(record.difference),
            "p": rounded(record.p),
        }
        | numbers
        | means
        | {"reason": record.reason}
        | ({"after_this": further} if further else {})
    )


def _further(context: SessionContext, record: VerdictRecord) -> tuple[str, ...]:
    """The candidates that may be confirmed after this one."""
    if any(each.outcome == "pass" for each in (record, *judged(context))):
        return ()
    return tuple(each for each in confirmable(context) if each != record.candidate)


def _bounds(interval: tuple[float | None, float | None] | None) -> list[float | None] | None:
    return interval and [rounded(bound) for bound in interval]


def _rounded_means(means: Mapping[str, Mapping[MeasureName, float | None]]) -> dict[str, dict[str, float | None]]:
    return {arm: {name: rounded(value) for name, value in values.items()} for arm, values in means.items()}


def _sources(measured: Mapping[str, tuple[list[Measure], list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    """By arm, where each seed's measure came from."""
    return {arm: sources for arm, (_, sources) in measured.items()}

"""Branches: launch an arm on its seeds, read it, measure it as the gate does. Code says what may be launched when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.gate.measure import Measure, MeasureName, later_half, later_half_mean
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact, rounded
from learning_signal.tools.claims.keep import Checked
from learning_signal.tools.claims.objection import weighed
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import LaunchBranch, ReadBranch
from learning_signal.tools.plan.evaluation import branch_episodes
from learning_signal.tools.roles import Role
from learning_signal.tools.round.confirmations import (
    candidate_to_confirm,
    confirm_specs,
    first_count,
    is_sealed,
    needs_screen,
    present_branch,
    refuse_confirmation,
)
from learning_signal.tools.round.record_branches import record_branch, seeds_text
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch
from learning_signal.tools.trainer import final_evaluation

SEALED = "A confirmation shows its numbers once it is judged: confirm judges it."
READ_ON = "of query episodes at the end of the branch; a screen and a confirmation use others, and its later half"


def branch_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that launch and read branches."""

    async def launch_branch(arguments: LaunchBranch) -> Answer:
        _refuse_unknown(context, arguments.arm)
        _refuse_early(context, arguments)
        reason = choice(context, arguments.arm, arguments.reason) if arguments.purpose == "confirm" else ""
        claim = why_this_one(context, "launch_branch", arguments.reason) if reason else None
        (branch,) = begin(context, [arguments.arm], arguments.purpose, reason, "validator", claim)
        return Answer(_launched(context, branch))

    async def read_branch(arguments: ReadBranch) -> Answer:
        branch = find_branch(context, arguments.branch)
        ensure_running(context, branch)
        if arguments.wait:
            for segment in branch.segments:
                try:
                    await context.trainer.result(segment)
                except SegmentFailed:
                    continue
        return Answer(compact(await _reading(context, branch)))

    return {
        "launch_branch": Tool(
            "launch_branch",
            "Start one arm of a confirmation without waiting; answers with a branch id.",
            LaunchBranch,
            launch_branch,
        ),
        "read_branch": Tool(
            "read_branch",
            "Status or results of a branch on the query episodes at its end.",
            ReadBranch,
            read_branch,
            patient=True,
        ),
    }


def begin(
    context: SessionContext,
    arms: Sequence[str],
    purpose: Purpose,
    reason: str = "",
    agent: Role | None = None,
    claim: Checked | None = None,
) -> list[Branch]:
    """The branches of these arms in the present rung of the screen, or in the present confirmation, in flight.

    Those that are new are launched together and recorded at once, so that no stop forgets them; ``reason`` says why a
    candidate is confirmed (``claim``: as it was checked), ``agent`` who asked for it. Raises ``OutOfBudget``, before
    any is launched, where they do not all fit.
    """
    rung = present_rung(context) if purpose == "screen" else 0
    known = {arm: find_arm(context, purpose, arm) for arm in arms}
    present = {arm: branch for arm, branch in known.items() if branch is not None and branch.rung == rung}
    refinement, attempt = context.state.refinement, len(context.round.confirmations) if purpose == "confirm" else 0
    if _is_trial(context, purpose):
        count = first_count(context)
        specs = {arm: confirm_specs(context, arm, attempt, refinement, count) for arm in arms if arm not in present}
    else:
        specs = {
            arm: screen_specs(context, context.shaping_of(arm), refinement, rung) for arm in arms if arm not in present
        }
    afford_segments(context, f"the {purpose} of {', '.join(specs)}", [spec for each in specs.values() for spec in each])
    for branch in present.values():
        ensure_running(context, branch)
    new, number = [], context.state.branches
    for arm, each in specs.items():
        earlier = known[arm]
        number += earlier is None
        new.append(
            Branch(
                name=f"B{number}" if earlier is None else earlier.name,
                arm=arm,
                purpose=purpose,
                refinement=refinement,
                rung=rung,
                attempt=attempt,
                segments=tuple(context.trainer.launch(spec, purpose, arm) for spec in each),
                reason=context.ledger.redacted(reason) if arm != CONTROL else "",
            )
        )
    if new:
        with context.ledger.transaction(f"{purpose} begins"):
            if purpose == "screen":
                seeds = seeds_text(len(new[0].segments))
                context.event("screen", f"screens {', '.join(arms)} on {seeds}, to {context.rungs[rung]:,} env steps")
            for branch in new:
                record_branch(context, branch, agent, claim if branch.arm != CONTROL else None)
    begun = {branch.arm: branch for branch in [*present.values(), *new]}
    return [begun[arm] for arm in arms]


def choice(context: SessionContext, arm: str, reason: str) -> str:
    """Why a candidate is confirmed that the ranking does not have first; empty where it does."""
    if arm == CONTROL:
        return ""
    expected = candidate_to_confirm(context)
    return "" if arm == expected else f"chosen over {expected}: “{reason}”"


def why_this_one(context: SessionContext, tool: str, reason: str) -> Checked:
    """The Validator's reason for a candidate that the ranking does not have first, as `weighed` checks it."""
    return weighed(context, tool, "events", "validator", {"reason": reason})


async def measures(
    context: SessionContext, branch: Branch, episode_set: str
) -> tuple[list[Measure], list[dict[str, Any]]]:
    """Each seed's measure on the gate's own episodes, and where it came from; a failed seed measures None."""
    found, sources = [], []
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
        found.append(measure)
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
    return found, sources


def values_of(sources: Sequence[Mapping[str, Any]]) -> dict[MeasureName, list[float | None]]:
    """Both measures of an arm, seed by seed, from where they came from."""
    names: tuple[MeasureName, ...] = ("sparse_return", "progress")
    return {name: [seed[name] for seed in sources] for name in names}


def values_are(context: SessionContext) -> str:
    """What the values of screens and confirmations rest on, and why other evidence of them differs, in one sentence."""
    evaluation = context.settings.run.evaluation
    episodes = branch_episodes(context.settings.run, context.branch_steps, context.task)
    later = evaluation.points - evaluation.points // 2
    return (
        f"each value is one branch's mean over {episodes} episodes held out for its seed, at the "
        f"last {later} of its {evaluation.points} evaluations; evaluation metrics and behaviour are of query episodes "
        "at its end, so theirs differ"
    )


def find_branch(context: SessionContext, name: str) -> Branch:
    """The branch of this round called ``name``; ``ToolRefused`` if there is none."""
    for branch in context.round.branches:
        if branch.name == name:
            return branch
    known = ", ".join(branch.name for branch in context.round.branches) or "none yet"
    raise ToolRefused(
        f"Found branch {name!r}, expected one launched in this round ({known}): launch it first, or use 'main'."
    )


def screen_specs(
    context: SessionContext, shaping: ShapingConfig, refinement: int, rung: int = 0, further: int = 0
) -> list[SegmentSpec]:
    """The segments of an arm in a screen. Seeds belong to the round: every refinement shares its control.

    A later rung goes on from the end of the one before it, with the seeds that all its arms share.
    """
    seed, number, gate = context.settings.seed, context.round.number, context.settings.gate
    count, steps = gate.screen_seeds + further, context.rungs[rung]
    parents = [context.head.segment] * count
    place: tuple[int, ...] = ()
    if rung:
        before = screen_specs(context, shaping, refinement, rung - 1)
        parents, steps, place = [spec.id for spec in before], steps - context.rungs[rung - 1], (rung,)
    seeds = [derive(seed, "screen", number, index, *place) for index in range(count)]
    return [
        context.trainer.spec(parent, shaping, steps, each, "screen")
        for parent, each in zip(parents, seeds, strict=True)
    ]


def _is_trial(context: SessionContext, purpose: Purpose) -> bool:
    """Whether branches of this purpose have seeds of their own: a judge may confirm by the runs that were screened."""
    return purpose == "confirm" and context.settings.gate.judge.confirms_on == "confirm"


def present_rung(context: SessionContext) -> int:
    """The rung of the screen that is run now, or was the last; 0 is the first."""
    return len(_halvings(context))


def rung_arms(context: SessionContext) -> list[str]:
    """The control and the candidates of the present rung of the screen."""
    halvings = _halvings(context)
    names = halvings[-1] if halvings else (candidate.name for candidate in context.round.proposals[-1].candidates)
    return [CONTROL, *names]


def _halvings(context: SessionContext) -> list[tuple[str, ...]]:
    """Who went on after each rung of the present refinement's screen."""
    return [
        screen.goes_on
        for screen in context.round.screens
        if screen.refinement == context.state.refinement and screen.goes_on is not None
    ]


def ensure_running(context: SessionContext, branch: Branch) -> None:
    """After a resume: launch the missing segments of this round's branches (finished ones are only looked up)."""
    missing = [segment for segment in branch.segments if not context.trainer.known(segment)]
    if not missing:
        return
    if _is_trial(context, branch.purpose):
        specs = confirm_specs(context, branch.arm, branch.attempt, branch.refinement, len(branch.segments))
    else:
        further = len(branch.segments) - context.settings.gate.screen_seeds
        specs = screen_specs(context, context.shaping_of(branch.arm), branch.refinement, branch.rung, further)
    for spec in specs:
        context.trainer.launch(spec, branch.purpose, branch.arm)


def find_arm(context: SessionContext, purpose: Purpose, arm: str) -> Branch | None:
    """The branch of an arm in the present refinement's screen, or in the confirmation in progress; or None."""
    if purpose == "confirm":
        return present_branch(context, arm)
    for branch in context.round.branches:
        if (branch.purpose, branch.arm, branch.refinement) == (purpose, arm, context.state.refinement):
            return branch
    return None


def _refuse_unknown(context: SessionContext, arm: str) -> None:
    arms = [CONTROL, *(candidate.name for candidate in context.round.proposals[-1].candidates)]
    if arm not in arms:
        raise ToolRefused(f"Found the arm {arm!r}, expected one of {', '.join(arms)}: launch one of them.")


def _refuse_early(context: SessionContext, arguments: LaunchBranch) -> None:
    """``ToolRefused`` for a screen that is not needed, and for a confirmation that may not begin now."""
    if arguments.purpose == "confirm":
        refuse_confirmation(context, arguments.arm, arguments.reason)
    elif present_rung(context) and arguments.arm not in (expected := rung_arms(context)):
        raise ToolRefused(
            f"Found {arguments.arm}, which an earlier rung of the screen dropped, expected one of "
            f"{', '.join(expected)}: launch one that goes on."
        )
    elif not needs_screen(context):
        raise ToolRefused("Found a screen of one candidate, expected a confirmation: call confirm with it.")


def _launched(context: SessionContext, branch: Branch) -> str:
    steps = context.rungs[branch.rung] if branch.purpose == "screen" else context.branch_steps
    return compact(
        {
            "branch": branch.name,
            "arm": branch.arm,
            "purpose": branch.purpose,
            "segments": len(branch.segments),
            "env_steps_each": steps,
        }
    )


async def _reading(context: SessionContext, branch: Branch) -> dict[str, Any]:
    seeds, states, sealed = [], [], is_sealed(context, branch)
    for segment in branch.segments:
        state = context.trainer.status(segment)
        states.append(state)
        row: dict[str, Any] = {"status": state, "sparse_return": None, "progress": None}
        if state == "done" and not sealed:
            await context.trainer.evaluate_late(segment, "query")
            evaluation = final_evaluation(context.trainer.stored(segment), "query")
            row |= {"sparse_return": rounded(evaluation.sparse_return), "progress": rounded(evaluation.mean_progress)}
        elif state == "failed":
            row["reason"] = await _failure(context, segment)
        seeds.append(row)
    status = "running" if "running" in states else "failed" if "failed" in states else "done"
    return {
        "branch": branch.name,
        "arm": branch.arm,
        "purpose": branch.purpose,
        "status": status,
        "seeds": seeds,
        "mean": {name: _mean([row[name] for row in seeds]) for name in ("sparse_return", "progress")},
    } | ({"note": SEALED} if sealed else {"values_are": READ_ON})


async def _failure(context: SessionContext, segment: str) -> str:
    try:
        await context.trainer.result(segment)
    except SegmentFailed as failure:
        return str(failure)
    raise RuntimeError(f"segment {segment} is reported as failed but has a result")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(sum(known) / len(known)) if known and len(known) == len(values) else None

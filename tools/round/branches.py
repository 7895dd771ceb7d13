"""Branches: launch an arm on its seeds, and read it. What may be launched when is enforced here, not in prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import LaunchBranch, ReadBranch
from learning_signal.tools.round.confirmations import (
    candidate_to_confirm,
    confirm_specs,
    first_count,
    is_sealed,
    needs_screen,
    present_branch,
    refuse_confirmation,
)
from learning_signal.tools.round.record_branches import record_branch
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch
from learning_signal.tools.trainer import final_evaluation

SEALED = "A confirmation shows its numbers once compare_branches has judged it."


def branch_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that launch and read branches."""

    async def launch_branch(arguments: LaunchBranch) -> Answer:
        _refuse_unknown(context, arguments.arm)
        _refuse_early(context, arguments)
        existing = find_arm(context, arguments.purpose, arguments.arm)
        rung = present_rung(context) if arguments.purpose == "screen" else 0
        if existing is not None and existing.rung == rung:
            return Answer(_launched(context, existing))
        if rung and arguments.arm not in (expected := rung_arms(context)):
            raise ToolRefused(
                f"Found {arguments.arm}, which an earlier rung of the screen dropped, expected one of "
                f"{', '.join(expected)}: launch one that goes on."
            )
        refinement, attempt = context.state.refinement, len(context.round.confirmations)
        if _is_trial(context, arguments.purpose):
            specs = confirm_specs(context, arguments.arm, attempt, refinement, first_count(context))
        else:
            specs = screen_specs(context, context.shaping_of(arguments.arm), refinement, rung)
        afford_segments(context, f"the {arguments.purpose} of {arguments.arm}", specs)
        branch = Branch(
            name=existing.name if existing else f"B{context.state.branches + 1}",
            arm=arguments.arm,
            purpose=arguments.purpose,
            refinement=refinement,
            rung=rung,
            attempt=attempt if arguments.purpose == "confirm" else 0,
            segments=tuple(context.trainer.launch(spec, arguments.purpose, arguments.arm) for spec in specs),
        )
        reason = _choice(context, arguments)
        return Answer(_launched(context, branch), lambda: record_branch(context, branch, reason))

    async def read_branch(arguments: ReadBranch) -> Answer:
        branch = find_branch(context, arguments.branch)
        ensure_running(context, branch)
        if arguments.wait:
            for segment in branch.segments:
                try:
                    await context.trainer.result(segment)
                except SegmentFailed:
                    continue
        return Answer(json.dumps(await _reading(context, branch)))

    return {
        "launch_branch": Tool(
            "launch_branch",
            "Start one arm (control or a candidate) for a purpose; answers at once with a branch id. "
            "screen: short, every candidate and control; where the screen has rungs, again for those that go on. "
            "confirm: full length on fresh seeds, control and one candidate that the screen calls confirmable; one "
            "that it does not rank first needs a reason.",
            LaunchBranch,
            launch_branch,
        ),
        "read_branch": Tool(
            "read_branch",
            "Status or results of a branch on the query episodes; waits for it unless told not to.",
            ReadBranch,
            read_branch,
            patient=True,
        ),
    }


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
    elif not needs_screen(context):
        raise ToolRefused("Found a screen of one candidate, expected a confirmation: launch purpose 'confirm'.")


def _choice(context: SessionContext, arguments: LaunchBranch) -> str:
    """Why a candidate is confirmed that the ranking does not have first; empty where it does."""
    if arguments.purpose != "confirm" or arguments.arm == CONTROL:
        return ""
    expected = candidate_to_confirm(context)
    return "" if arguments.arm == expected else f"chosen over {expected}: {arguments.reason}"


def _launched(context: SessionContext, branch: Branch) -> str:
    steps = context.rungs[branch.rung] if branch.purpose == "screen" else context.branch_steps
    return json.dumps(
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
            evaluation = final_evaluation(await context.trainer.result(segment), "query")
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
    } | ({"note": SEALED} if sealed else {})


async def _failure(context: SessionContext, segment: str) -> str:
    try:
        await context.trainer.result(segment)
    except SegmentFailed as failure:
        return str(failure)
    raise RuntimeError(f"segment {segment} is reported as failed but has a result")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(sum(known) / len(known)) if known and len(known) == len(values) else None

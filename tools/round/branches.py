"""Branches: launch an arm on its seeds, and read it. What may be launched when is enforced here, not in prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.judges import Purpose
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import Answer, Tool, ToolRefused, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import LaunchBranch, ReadBranch
from learning_signal.tools.round.evidence import find_branch
from learning_signal.tools.round.record import record_branch
from learning_signal.tools.round.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch
from learning_signal.tools.trainer import final_evaluation


def branch_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that launch and read branches."""

    async def launch_branch(arguments: LaunchBranch) -> Answer:
        _refuse_unknown(context, arguments.arm)
        _refuse_early_confirmation(context, arguments)
        existing = find_arm(context, arguments.purpose, arguments.arm)
        rung = present_rung(context) if arguments.purpose == "screen" else 0
        if existing is not None and existing.rung == rung:
            return Answer(_launched(context, existing))
        if rung and arguments.arm not in (expected := rung_arms(context)):
            raise ToolRefused(
                f"Found {arguments.arm}, which an earlier rung of the screen dropped, expected one of "
                f"{', '.join(expected)}: launch one that goes on."
            )
        specs = arm_specs(context, context.shaping_of(arguments.arm), arguments.purpose, context.state.refinement, rung)
        afford_segments(context, f"the {arguments.purpose} of {arguments.arm}", specs)
        branch = Branch(
            name=existing.name if existing else f"B{context.state.branches + 1}",
            arm=arguments.arm,
            purpose=arguments.purpose,
            refinement=context.state.refinement,
            rung=rung,
            segments=tuple(context.trainer.launch(spec, arguments.purpose, arguments.arm) for spec in specs),
        )
        return Answer(_launched(context, branch), lambda: record_branch(context, branch))

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
            "Start one arm (control or a candidate) on all seeds of its purpose; answers at once with a branch id. "
            "screen: short, every candidate and control; where the screen has rungs, again for those that go on. "
            "confirm: full length on fresh seeds, control and the candidate the screen chose.",
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


def arm_specs(
    context: SessionContext, shaping: ShapingConfig, purpose: Purpose, refinement: int, rung: int = 0
) -> list[SegmentSpec]:
    """The segments of an arm. Screen seeds belong to the round, confirm seeds are fresh in every refinement.

    A later rung of the screen goes on from the end of the one before it, with the seeds that all its arms share.
    A judge that confirms on the screen judges the runs that were screened.
    """
    seed, number, gate = context.settings.seed, context.round.number, context.settings.gate
    if purpose == "confirm" and gate.judge.confirms_on == "confirm":
        seeds = [derive(seed, "confirm", number, refinement, index) for index in range(gate.confirm_seeds)]
        head, steps = context.head.segment, context.branch_steps
        return [context.trainer.spec(head, shaping, steps, each, "confirm") for each in seeds]
    parents, steps = [context.head.segment] * gate.screen_seeds, context.rungs[rung]
    place: tuple[int, ...] = ()
    if rung:
        before = arm_specs(context, shaping, purpose, refinement, rung - 1)
        parents, steps, place = [spec.id for spec in before], steps - context.rungs[rung - 1], (rung,)
    seeds = [derive(seed, "screen", number, index, *place) for index in range(gate.screen_seeds)]
    return [
        context.trainer.spec(parent, shaping, steps, each, "screen")
        for parent, each in zip(parents, seeds, strict=True)
    ]


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
    for spec in arm_specs(context, context.shaping_of(branch.arm), branch.purpose, branch.refinement, branch.rung):
        context.trainer.launch(spec, branch.purpose, branch.arm)


def find_arm(context: SessionContext, purpose: Purpose, arm: str) -> Branch | None:
    """The branch of an arm in the present refinement, or None."""
    for branch in context.round.branches:
        if (branch.purpose, branch.arm, branch.refinement) == (purpose, arm, context.state.refinement):
            return branch
    return None


def _refuse_unknown(context: SessionContext, arm: str) -> None:
    arms = [CONTROL, *(candidate.name for candidate in context.round.proposals[-1].candidates)]
    if arm not in arms:
        raise ToolRefused(f"Found the arm {arm!r}, expected one of {', '.join(arms)}: launch one of them.")


def needs_screen(context: SessionContext) -> bool:
    """Whether the present candidates must be screened: a single one goes straight to confirmation."""
    return len(context.round.proposals[-1].candidates) > 1


def _refuse_early_confirmation(context: SessionContext, arguments: LaunchBranch) -> None:
    if arguments.purpose == "screen":
        if not needs_screen(context):
            raise ToolRefused("Found a screen of one candidate, expected a confirmation: launch purpose 'confirm'.")
        return
    winner = chosen(context)
    if arguments.arm not in (CONTROL, winner):
        raise ToolRefused(
            f"Found a confirmation of {arguments.arm}, expected {winner} (chosen by the screen) or {CONTROL}: "
            "only the screened winner is confirmed."
        )


def chosen(context: SessionContext) -> str:
    """The candidate that may be confirmed; ``ToolRefused`` while a screen is missing or where it chose none."""
    if not needs_screen(context):
        return context.round.proposals[-1].candidates[0].name
    for screen in context.round.screens:
        if screen.refinement == context.state.refinement and screen.goes_on is None:
            if screen.chosen is None:
                raise ToolRefused("The screen chose no candidate: submit_validation with candidate null, inconclusive.")
            return screen.chosen
    raise ToolRefused("Found no screen yet, expected one before a confirmation: launch and compare purpose 'screen'.")


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
    seeds, states = [], []
    for segment in branch.segments:
        state = context.trainer.status(segment)
        states.append(state)
        row: dict[str, Any] = {"status": state, "sparse_return": None, "progress": None}
        if state == "done":
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
    }


async def _failure(context: SessionContext, segment: str) -> str:
    try:
        await context.trainer.result(segment)
    except SegmentFailed as failure:
        return str(failure)
    raise RuntimeError(f"segment {segment} is reported as failed but has a result")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return rounded(sum(known) / len(known)) if known and len(known) == len(values) else None

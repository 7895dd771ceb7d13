"""Branches: launch an arm on its seeds, and read it. What may be launched when is enforced here, not in prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from marl.randomness import derive
from marl.segment import SegmentFailed, SegmentSpec
from marl.shaping import ShapingConfig
from tools.base import Answer, Tool, ToolRefused, rounded
from tools.contracts import LaunchBranch, Purpose, ReadBranch
from tools.desk import Desk
from tools.evidence import find_branch
from tools.spending import afford_segments
from tools.state import Branch
from tools.trainer import final_evaluation

CONTROL = "control"


def branch_tools(desk: Desk) -> dict[str, Tool]:
    """The tools that launch and read branches."""

    async def launch_branch(arguments: LaunchBranch) -> Answer:
        shaping = _shaping_of_arm(desk, arguments.arm)
        _refuse_early_confirmation(desk, arguments)
        existing = find_arm(desk, arguments.purpose, arguments.arm)
        rung = present_rung(desk) if arguments.purpose == "screen" else 0
        if existing is not None and existing.rung == rung:
            return Answer(_launched(desk, existing))
        if rung and arguments.arm not in (expected := rung_arms(desk)):
            raise ToolRefused(
                f"Found {arguments.arm}, which an earlier rung of the screen dropped, expected one of "
                f"{', '.join(expected)}: launch one that goes on."
            )
        specs = arm_specs(desk, shaping, arguments.purpose, desk.state.refinement, rung)
        afford_segments(desk, f"the {arguments.purpose} of {arguments.arm}", specs)
        branch = Branch(
            name=existing.name if existing else f"B{desk.state.branches + 1}", arm=arguments.arm,
            purpose=arguments.purpose, refinement=desk.state.refinement, rung=rung,
            segments=tuple(desk.trainer.launch(spec, arguments.purpose, arguments.arm) for spec in specs),
        )
        return Answer(_launched(desk, branch), lambda: _record_branch(desk, branch))

    async def read_branch(arguments: ReadBranch) -> Answer:
        branch = find_branch(desk, arguments.branch)
        ensure_running(desk, branch)
        if arguments.wait:
            for segment in branch.segments:
                try:
                    await desk.trainer.result(segment)
                except SegmentFailed:
                    continue
        return Answer(json.dumps(await _reading(desk, branch)))

    return {
        "launch_branch": Tool(
            "launch_branch",
            "Start one arm (control or a candidate) on all seeds of its purpose; answers at once with a branch id. "
            "screen: short, every candidate and control; where the screen has rungs, again for those that go on. "
            "confirm: full horizon on fresh seeds, control and the candidate the screen chose.",
            LaunchBranch, launch_branch,
        ),
        "read_branch": Tool(
            "read_branch", "Status or results of a branch on the query episodes; waits for it unless told not to.",
            ReadBranch, read_branch, patient=True,
        ),
    }


def arm_specs(
    desk: Desk, shaping: ShapingConfig, purpose: Purpose, refinement: int, rung: int = 0
) -> list[SegmentSpec]:
    """The segments of an arm. Screen seeds belong to the round, confirm seeds are fresh in every refinement.

    A later rung of the screen goes on from the end of the one before it, with the seeds that all its arms share.
    Under the rule ``single run`` the run that was screened is the one that is confirmed.
    """
    seed, number, gate = desk.settings.seed, desk.round.number, desk.settings.gate
    if purpose == "confirm" and gate.rule != "single run":
        seeds = [derive(seed, "confirm", number, refinement, index) for index in range(gate.confirm_seeds)]
        return [desk.trainer.spec(desk.state.head.segment, shaping, desk.horizon, each) for each in seeds]
    parents, steps = [desk.state.head.segment] * gate.screen_seeds, desk.rungs[rung]
    place: tuple[int, ...] = ()
    if rung:
        before = arm_specs(desk, shaping, purpose, refinement, rung - 1)
        parents, steps, place = [spec.id for spec in before], steps - desk.rungs[rung - 1], (rung,)
    seeds = [derive(seed, "screen", number, index, *place) for index in range(gate.screen_seeds)]
    return [desk.trainer.spec(parent, shaping, steps, each) for parent, each in zip(parents, seeds, strict=True)]


def present_rung(desk: Desk) -> int:
    """The rung of the screen that is run now, or was the last; 0 is the first."""
    return len(_halvings(desk))


def rung_arms(desk: Desk) -> list[str]:
    """The control and the candidates of the present rung of the screen."""
    halvings = _halvings(desk)
    names = halvings[-1] if halvings else (candidate.name for candidate in desk.round.proposals[-1].candidates)
    return [CONTROL, *names]


def _halvings(desk: Desk) -> list[tuple[str, ...]]:
    """Who went on after each rung of the present refinement's screen."""
    return [
        screen.goes_on for screen in desk.round.screens
        if screen.refinement == desk.state.refinement and screen.goes_on is not None
    ]


def ensure_running(desk: Desk, branch: Branch) -> None:
    """After a resume: launch what a branch of this round still misses (finished segments are only looked up)."""
    missing = [segment for segment in branch.segments if not desk.trainer.known(segment)]
    if not missing:
        return
    shaping = desk.state.head.shaping if branch.arm == CONTROL else desk.round.candidate(branch.arm).shaping
    for spec in arm_specs(desk, shaping, branch.purpose, branch.refinement, branch.rung):
        desk.trainer.launch(spec, branch.purpose, branch.arm)


def find_arm(desk: Desk, purpose: Purpose, arm: str) -> Branch | None:
    """The branch of an arm in the present refinement, or None."""
    for branch in desk.round.branches:
        if (branch.purpose, branch.arm, branch.refinement) == (purpose, arm, desk.state.refinement):
            return branch
    return None


def _shaping_of_arm(desk: Desk, arm: str) -> ShapingConfig:
    if arm == CONTROL:
        return desk.state.head.shaping
    names = [candidate.name for candidate in desk.round.proposals[-1].candidates]
    if arm not in names:
        raise ToolRefused(f"Found the arm {arm!r}, expected one of {', '.join([CONTROL, *names])}: launch one of them.")
    return desk.round.candidate(arm).shaping


def needs_screen(desk: Desk) -> bool:
    """Whether the present candidates must be screened: a single one goes straight to confirmation."""
    return len(desk.round.proposals[-1].candidates) > 1


def _refuse_early_confirmation(desk: Desk, arguments: LaunchBranch) -> None:
    if arguments.purpose == "screen":
        if not needs_screen(desk):
            raise ToolRefused("Found a screen of one candidate, expected a confirmation: launch purpose 'confirm'.")
        return
    winner = chosen(desk)
    if arguments.arm not in (CONTROL, winner):
        raise ToolRefused(
            f"Found a confirmation of {arguments.arm}, expected {winner} (chosen by the screen) or {CONTROL}: "
            "only the screened winner is confirmed."
        )


def chosen(desk: Desk) -> str:
    """The candidate that may be confirmed; ``ToolRefused`` while a screen is owed or where it chose none."""
    if not needs_screen(desk):
        return desk.round.proposals[-1].candidates[0].name
    for screen in desk.round.screens:
        if screen.refinement == desk.state.refinement and screen.goes_on is None:
            if screen.chosen is None:
                raise ToolRefused("The screen chose no candidate: submit_validation with candidate null, inconclusive.")
            return screen.chosen
    raise ToolRefused("Found no screen yet, expected one before a confirmation: launch and compare purpose 'screen'.")


def _launched(desk: Desk, branch: Branch) -> str:
    steps = desk.rungs[branch.rung] if branch.purpose == "screen" else desk.horizon
    return json.dumps({
        "branch": branch.name, "arm": branch.arm, "purpose": branch.purpose, "segments": len(branch.segments),
        "env_steps_each": steps,
    })


def _record_branch(desk: Desk, branch: Branch) -> None:
    identity = desk.row_id(branch.name)
    rung = f", rung {branch.rung + 1} of {len(desk.rungs)}" if branch.rung else ""
    seq = desk.event(
        "branch", f"{branch.name}: {branch.purpose} {branch.arm} on {len(branch.segments)} seeds{rung}",
        agent="validator", ref=("branches", identity),
    )
    if branch.rung:
        desk.round.branches = [branch if each.name == branch.name else each for each in desk.round.branches]
    else:
        desk.ledger.add(
            "branches", id=identity, session_id=desk.session, round=desk.round.number, refinement=branch.refinement,
            purpose=branch.purpose, arm=branch.arm,
            candidate_id=None if branch.arm == CONTROL else desk.candidate_id(branch.arm), event_seq=seq,
        )
        desk.state.branches += 1
        desk.round.branches.append(branch)
    for position, segment in enumerate(branch.segments, branch.rung * len(branch.segments)):
        desk.ledger.add(
            "branch_segments", branch_id=identity, position=position, session_id=desk.session, segment_id=segment
        )


async def _reading(desk: Desk, branch: Branch) -> dict:
    seeds, states = [], []
    for segment in branch.segments:
        state = desk.trainer.status(segment)
        states.append(state)
        row: dict = {"status": state, "sparse_return": None, "progress": None}
        if state == "done":
            evaluation = final_evaluation(await desk.trainer.result(segment), "query")
            row |= {"sparse_return": rounded(evaluation.sparse_return), "progress": rounded(evaluation.mean_progress)}
        elif state == "failed":
            row["reason"] = await _failure(desk, segment)
        seeds.append(row)
    status = "running" if "running" in states else "failed" if "failed" in states else "done"
    return {
        "branch": branch.name, "arm": branch.arm, "purpose": branch.purpose, "status": status, "seeds": seeds,
        "mean": {name: _mean([row[name] for row in seeds]) for name in ("sparse_return", "progress")},
    }


async def _failure(desk: Desk, segment: str) -> str:
    try:
        await desk.trainer.result(segment)
    except SegmentFailed as failure:
        return str(failure)
    raise RuntimeError(f"segment {segment} is reported as failed but has a result")


def _mean(values: Sequence[float | None]) -> float | None:
    if not values or any(value is None for value in values):
        return None
    return rounded(sum(values) / len(values))

"""The Validator's instruments: launch branches, read them, compare them. The gate is enforced here, not in prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from marl.gate import Measure, ScreenResult, Verdict, judge, later_half_mean, rank_screen
from marl.randomness import derive
from marl.segment import SegmentFailed, SegmentResult, code_version
from marl.shaping import ShapingConfig
from tools.base import Answer, Tool, ToolRefused
from tools.contracts import Candidate, CompareBranches, LaunchBranch, Purpose, ReadBranch, Validation
from tools.desk import Desk
from tools.evidence import find_branch
from tools.state import Branch, Confirmation, Screen, Tried, VerdictRecord
from tools.trainer import final_evaluation

CONTROL = "control"


def branch_tools(desk: Desk) -> dict[str, Tool]:
    """The tools of the Validator."""

    async def launch_branch(arguments: LaunchBranch) -> Answer:
        shaping = _shaping_of_arm(desk, arguments.arm)
        _refuse_early_confirmation(desk, arguments)
        existing = find_arm(desk, arguments.purpose, arguments.arm)
        if existing is not None:
            return Answer(_launched(desk, existing))
        branch = Branch(
            name=f"B{desk.state.branches + 1}", arm=arguments.arm, purpose=arguments.purpose,
            refinement=desk.state.refinement,
            segments=tuple(
                desk.trainer.launch(spec, arguments.purpose, arguments.arm)
                for spec in arm_specs(desk, shaping, arguments.purpose)
            ),
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

    async def compare_branches(arguments: CompareBranches) -> Answer:
        if arguments.purpose == "screen":
            return await _compare_screen(desk)
        return await _compare_confirmation(desk)

    async def submit_validation(arguments: Validation) -> Answer:
        computed = computed_verdict(desk)
        if (arguments.candidate, arguments.outcome) != (computed.candidate, computed.outcome):
            raise ToolRefused(
                f"Found {arguments.outcome} for {arguments.candidate}, but the computed verdict is "
                f"{computed.outcome} for {computed.candidate}: submit that, and put your doubts into the reading."
            )
        verdict = computed.model_copy(update={"reading": arguments.reading})
        text = json.dumps({"accepted": True, "outcome": verdict.outcome})
        return Answer(text, lambda: record_verdict(desk, verdict, "validator"))

    return {
        "launch_branch": Tool(
            "launch_branch",
            "Start one arm (control or a candidate) on all seeds of its purpose; answers at once with a branch id. "
            "screen: short, every candidate and control. confirm: full horizon on fresh seeds, control and the "
            "candidate the screen chose.",
            LaunchBranch, launch_branch,
        ),
        "read_branch": Tool(
            "read_branch", "Status or results of a branch on the query episodes; waits for it unless told not to.",
            ReadBranch, read_branch,
        ),
        "compare_branches": Tool(
            "compare_branches",
            "The statistics: ranks the screened candidates and chooses one, or judges the confirmed one "
            "(pass, fail or inconclusive).",
            CompareBranches, compare_branches,
        ),
        "submit_validation": Tool(
            "submit_validation",
            "End your phase: the verdict exactly as computed and your reading of it. candidate null and inconclusive "
            "if nothing could be compared.",
            Validation, submit_validation, ends_phase=True,
        ),
    }


def arm_specs(desk: Desk, shaping: ShapingConfig, purpose: Purpose):
    """The segments of an arm. Screen seeds belong to the round, confirm seeds are fresh in every refinement."""
    seed, number, gate = desk.settings.seed, desk.round.number, desk.settings.gate
    if purpose == "screen":
        seeds = [derive(seed, "screen", number, index) for index in range(gate.screen_seeds)]
        steps = desk.screen_horizon
    else:
        seeds = [derive(seed, "confirm", number, desk.state.refinement, index) for index in range(gate.confirm_seeds)]
        steps = desk.horizon
    return [desk.trainer.spec(desk.state.head.segment, shaping, steps, each) for each in seeds]


def ensure_running(desk: Desk, branch: Branch) -> None:
    """After a resume: launch what a branch of this round still misses (finished segments are only looked up)."""
    missing = [segment for segment in branch.segments if not desk.trainer.known(segment)]
    if not missing:
        return
    for spec in arm_specs(desk, _shaping_of_arm(desk, branch.arm), branch.purpose):
        desk.trainer.launch(spec, branch.purpose, branch.arm)


def find_arm(desk: Desk, purpose: Purpose, arm: str) -> Branch | None:
    """The branch of an arm in the present refinement, or None."""
    for branch in desk.round.branches:
        if (branch.purpose, branch.arm, branch.refinement) == (purpose, arm, desk.state.refinement):
            return branch
    return None


def computed_verdict(desk: Desk) -> VerdictRecord:
    """The verdict of the present refinement as computed; ``ToolRefused`` while a comparison is still owed."""
    refinement = desk.state.refinement
    identity = desk.row_id(f"V{desk.round.number}.{refinement}")
    for confirmation in desk.round.confirmations:
        if confirmation.refinement == refinement:
            return VerdictRecord(
                id=identity, refinement=refinement, candidate=confirmation.candidate, outcome=confirmation.outcome,
                rule=confirmation.rule, reason=confirmation.reason, reading="", p=confirmation.p,
                difference=confirmation.difference,
            )
    for screen in desk.round.screens:
        if screen.refinement == refinement and screen.chosen is None:
            return VerdictRecord(
                id=identity, refinement=refinement, candidate=None, outcome="inconclusive", rule=None,
                reason="No candidate could be compared with the control: "
                + "; ".join(f"{name} {note}" for name, note in screen.notes.items()) + ".",
                reading="",
            )
    raise ToolRefused(
        "Found no comparison for a verdict, expected compare_branches with purpose 'confirm' (after the screen): "
        "launch, read and compare first."
    )


def record_verdict(desk: Desk, verdict: VerdictRecord, agent: str | None) -> None:
    """Write a verdict and what became of every candidate of this refinement."""
    number = desk.round.number
    comparison = next((each.comparison for each in desk.round.confirmations
                       if each.refinement == verdict.refinement), None)
    seq = desk.event(
        "verdict", f"{verdict.candidate or 'no candidate'}: {verdict.reason}", agent=agent,
        ref=("verdicts", verdict.id),
    )
    desk.ledger.add(
        "verdicts", id=verdict.id, session_id=desk.session, round=number, refinement=verdict.refinement,
        candidate_id=candidate_id(desk, verdict.candidate), comparison_id=comparison and desk.row_id(comparison),
        event_seq=seq, outcome=verdict.outcome, rule=verdict.rule, reason=verdict.reason, reading=verdict.reading,
    )
    desk.round.verdicts.append(verdict)
    screen = next((each for each in desk.round.screens if each.refinement == verdict.refinement), None)
    for candidate in desk.round.proposals[-1].candidates:
        desk.state.tried.append(_fate(number, candidate, verdict, screen))


def _fate(number: int, candidate: Candidate, verdict: VerdictRecord, screen: Screen | None) -> Tried:
    """What became of one candidate of the refinement that ``verdict`` closes."""
    name, rule, difference = candidate.name, None, None
    if name == verdict.candidate:
        outcome = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}[verdict.outcome]
        rule, difference, reason = verdict.rule, verdict.difference, verdict.reason
    elif screen is None or name not in screen.differences:
        outcome, reason = "not compared", "no comparison was made"
    else:
        rule, difference = screen.measure, screen.differences[name]
        if name == screen.chosen:
            outcome, reason = "not compared", "it led the screen, but no confirmation was judged"
        elif difference is None:
            outcome, reason = "screened out", screen.notes[name]
        else:
            best = screen.differences[screen.chosen]
            outcome = "screened out"
            reason = f"behind {screen.chosen} in the screen: {difference:+.3g} against {best:+.3g} of {rule}"
    return Tried(
        round=number, candidate=name, shaping=candidate.shaping, outcome=outcome, rule=rule, difference=difference,
        reason=reason,
    )


def candidate_id(desk: Desk, name: str | None) -> str | None:
    """The ledger's id of a candidate of this round."""
    if name is None:
        return None
    for refinement, proposal in enumerate(desk.round.proposals):
        if any(candidate.name == name for candidate in proposal.candidates):
            return desk.row_id(f"P{desk.round.number}.{refinement}/{name}")
    raise KeyError(name)


def _shaping_of_arm(desk: Desk, arm: str) -> ShapingConfig:
    if arm == CONTROL:
        return desk.state.head.shaping
    names = [candidate.name for candidate in desk.round.proposals[-1].candidates]
    if arm not in names:
        raise ToolRefused(f"Found the arm {arm!r}, expected one of {', '.join([CONTROL, *names])}: launch one of them.")
    return desk.round.candidate(arm).shaping


def _needs_screen(desk: Desk) -> bool:
    return len(desk.round.proposals[-1].candidates) > 1


def _refuse_early_confirmation(desk: Desk, arguments: LaunchBranch) -> None:
    if arguments.purpose == "screen":
        if not _needs_screen(desk):
            raise ToolRefused("Found a screen of one candidate, expected a confirmation: launch purpose 'confirm'.")
        return
    chosen = _chosen(desk)
    if arguments.arm not in (CONTROL, chosen):
        raise ToolRefused(
            f"Found a confirmation of {arguments.arm}, expected {chosen} (chosen by the screen) or {CONTROL}: "
            "only the screened winner is confirmed."
        )


def _chosen(desk: Desk) -> str:
    if not _needs_screen(desk):
        return desk.round.proposals[-1].candidates[0].name
    for screen in desk.round.screens:
        if screen.refinement == desk.state.refinement:
            if screen.chosen is None:
                raise ToolRefused("The screen chose no candidate: submit_validation with candidate null, inconclusive.")
            return screen.chosen
    raise ToolRefused("Found no screen yet, expected one before a confirmation: launch and compare purpose 'screen'.")


def _launched(desk: Desk, branch: Branch) -> str:
    steps = desk.screen_horizon if branch.purpose == "screen" else desk.horizon
    return json.dumps({
        "branch": branch.name, "arm": branch.arm, "purpose": branch.purpose, "segments": len(branch.segments),
        "env_steps_each": steps,
    })


def _record_branch(desk: Desk, branch: Branch) -> None:
    identity = desk.row_id(branch.name)
    seq = desk.event(
        "branch", f"{branch.name}: {branch.purpose} {branch.arm} on {len(branch.segments)} seeds", agent="validator",
        ref=("branches", identity),
    )
    desk.ledger.add(
        "branches", id=identity, session_id=desk.session, round=desk.round.number, refinement=branch.refinement,
        purpose=branch.purpose, arm=branch.arm,
        candidate_id=None if branch.arm == CONTROL else candidate_id(desk, branch.arm), event_seq=seq,
    )
    for position, segment in enumerate(branch.segments):
        desk.ledger.add(
            "branch_segments", branch_id=identity, position=position, session_id=desk.session, segment_id=segment
        )
    desk.state.branches += 1
    desk.round.branches.append(branch)


async def _reading(desk: Desk, branch: Branch) -> dict:
    seeds, states = [], []
    for segment in branch.segments:
        state = desk.trainer.status(segment)
        states.append(state)
        row: dict = {"status": state, "sparse_return": None, "progress": None}
        if state == "done":
            evaluation = final_evaluation(await desk.trainer.result(segment), "query")
            row |= {"sparse_return": _short(evaluation.sparse_return), "progress": _short(evaluation.mean_progress)}
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


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _mean(values: Sequence[float | None]) -> float | None:
    if not values or any(value is None for value in values):
        return None
    return _short(sum(values) / len(values))


async def _measures(desk: Desk, branch: Branch, episode_set: str) -> tuple[list[Measure], list[dict]]:
    """Each seed's measure on the gate's own episodes, and where it came from; a failed seed measures None."""
    measures, sources = [], []
    for segment in branch.segments:
        try:
            result: SegmentResult = await desk.trainer.result(segment)
        except SegmentFailed as failure:
            measure, positions, reason = Measure(sparse_return=None, progress=None), [], str(failure)
        else:
            evaluations = [each for each in result.evaluations if each.set == episode_set]
            measure, reason = later_half_mean(evaluations), None
            positions = [each.env_steps for each in evaluations[len(evaluations) // 2:]]
        measures.append(measure)
        sources.append({
            "segment": segment, "episode_set": episode_set, "evaluations": positions, "reason": reason,
            "sparse_return": measure.sparse_return, "progress": measure.progress,
        })
    return measures, sources


def _arm(desk: Desk, purpose: Purpose, arm: str) -> Branch:
    branch = find_arm(desk, purpose, arm)
    if branch is None:
        raise ToolRefused(
            f"Found no {purpose} branch of {arm}, expected one: launch_branch(arm={arm!r}, purpose={purpose!r}) first."
        )
    ensure_running(desk, branch)
    return branch


async def _compare_screen(desk: Desk) -> Answer:
    if not _needs_screen(desk):
        raise ToolRefused("Found a screen of one candidate, expected a confirmation: compare purpose 'confirm'.")
    for screen in desk.round.screens:
        if screen.refinement == desk.state.refinement:
            return Answer(_screen_text(screen))
    names = [candidate.name for candidate in desk.round.proposals[-1].candidates]
    arms = {arm: _arm(desk, "screen", arm) for arm in [CONTROL, *names]}
    measured = {arm: await _measures(desk, branch, "screen") for arm, branch in arms.items()}
    settings = desk.settings.gate
    result = rank_screen(
        measured[CONTROL][0], {name: measured[name][0] for name in names}, desk.task.max_return, settings
    )
    screen = Screen(
        comparison=f"C{desk.state.comparisons + 1}", refinement=desk.state.refinement, chosen=result.chosen,
        measure=result.measure, differences={arm.name: arm.mean_difference for arm in result.arms},
        notes={
            arm.name: arm.failure + _cause(measured[arm.name][1], measured[CONTROL][1])
            for arm in result.arms if arm.failure is not None
        },
    )

    def apply() -> None:
        _record_comparison(desk, screen.comparison, "screen", None, measured, result, result.reason)
        desk.round.screens.append(screen)

    return Answer(_screen_text(screen), apply)


def _cause(*arms: Sequence[dict]) -> str:
    """Why the first failed seed of these arms failed, in brackets."""
    reasons = [source["reason"] for sources in arms for source in sources if source["reason"] is not None]
    return f" ({reasons[0]})" if reasons else ""


def _screen_text(screen: Screen) -> str:
    return json.dumps({
        "comparison": screen.comparison, "purpose": "screen", "measure": screen.measure,
        "ranking": [
            {"candidate": name, "difference": _short(difference), "note": screen.notes.get(name)}
            for name, difference in screen.differences.items()
        ],
        "chosen": screen.chosen,
    })


async def _compare_confirmation(desk: Desk) -> Answer:
    chosen = _chosen(desk)
    arms = {arm: _arm(desk, "confirm", arm) for arm in (CONTROL, chosen)}
    measured = {arm: await _measures(desk, branch, "confirm") for arm, branch in arms.items()}
    control, candidate = measured[CONTROL][0], measured[chosen][0]
    declared = desk.task.progress is not None
    verdict = judge(
        [each.sparse_return for each in control], [each.sparse_return for each in candidate],
        [each.progress for each in control] if declared else None,
        [each.progress for each in candidate] if declared else None,
        desk.task.max_return, desk.settings.gate,
    )
    known = next((each for each in desk.round.confirmations if each.refinement == desk.state.refinement), None)
    confirmation = known or Confirmation(
        comparison=f"C{desk.state.comparisons + 1}", refinement=desk.state.refinement, candidate=chosen,
        outcome=verdict.outcome, rule=verdict.rule, reason=verdict.reason, p=verdict.p,
        difference=verdict.mean_difference,
    )
    text = json.dumps({
        "comparison": confirmation.comparison, "purpose": "confirm", "candidate": chosen, "outcome": verdict.outcome,
        "rule": verdict.rule, "difference": _short(verdict.mean_difference),
        "interval": verdict.interval and [_short(bound) for bound in verdict.interval], "p": _short(verdict.p),
        "n": verdict.n, "reason": verdict.reason,
    })

    def apply() -> None:
        _record_comparison(desk, confirmation.comparison, "confirm", chosen, measured, verdict, verdict.reason)
        desk.round.confirmations.append(confirmation)

    return Answer(text, None if known else apply)


def _record_comparison(
    desk: Desk, name: str, purpose: str, candidate: str | None, measured: dict, result: ScreenResult | Verdict,
    title: str,
) -> None:
    identity = desk.row_id(name)
    seq = desk.event("comparison", f"{name} {purpose}: {title}", ref=("comparisons", identity))
    desk.ledger.add(
        "comparisons", id=identity, session_id=desk.session, round=desk.round.number,
        refinement=desk.state.refinement, purpose=purpose, candidate_id=candidate_id(desk, candidate), event_seq=seq,
        inputs={"max_return": desk.task.max_return, "progress_declared": desk.task.progress is not None,
                "order": list(measured), "arms": {arm: sources for arm, (_, sources) in measured.items()}},
        result=result.model_dump(mode="json"), settings=desk.settings.gate.model_dump(mode="json"),
        code_version=code_version(),
    )
    desk.state.comparisons += 1

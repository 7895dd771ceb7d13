"""The branches and comparisons of a round, each stored once, like the other facts of `tools.round.record`.

Every function belongs in a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from learning_signal.marl.gate.confirmation import Verdict
from learning_signal.marl.gate.probation import ProbationVerdict
from learning_signal.marl.gate.recompute import WORDING
from learning_signal.marl.gate.screening import ScreenResult
from learning_signal.marl.gate.trial import Look
from learning_signal.marl.segments.version import code_version
from learning_signal.tools.claims.keep import Checked, keep_claim
from learning_signal.tools.context import SessionContext
from learning_signal.tools.roles import Role
from learning_signal.tools.round.fates import size_of
from learning_signal.tools.state import Branch, Screen, VerdictRecord


@dataclass(frozen=True)
class Trial:
    """A confirmation that was judged, before it is recorded."""

    verdict: Verdict | Look
    branches: Sequence[Branch]
    """As they are now: a sequential confirmation adds segments to those that were launched."""
    arms: Mapping[str, list[dict[str, Any]]]
    """By arm, each seed's measures and where they came from."""
    beside: Mapping[str, Any]
    """What else the verdict rests on."""


def record_branch(
    context: SessionContext, branch: Branch, agent: Role | None = None, claim: Checked | None = None
) -> None:
    """A branch is launched, or (in a later rung of a screen) continued: by code, or as an ``agent`` asked for it.

    ``claim`` is the reason that the agent gave, as it was checked.
    """
    identity = context.row_id(branch.name)
    rung = f", rung {branch.rung + 1} of {len(context.rungs)}" if branch.rung else ""
    seq = context.event(
        "branch",
        f"{branch.name}: {branch.purpose} {branch.arm} on {seeds_text(len(branch.segments))}{rung}"
        + (f", {branch.reason}" if branch.reason else ""),
        agent=agent,
        ref=("branches", identity),
    )
    if claim is not None:
        keep_claim(context, claim, str(seq), seq)
    if branch.rung:
        context.round.branches = [branch if each.name == branch.name else each for each in context.round.branches]
    else:
        context.ledger.add(
            "branches",
            id=identity,
            session_id=context.session,
            round=context.round.number,
            refinement=branch.refinement,
            purpose=branch.purpose,
            arm=branch.arm,
            candidate_id=context.candidate_id(branch.arm),
            event_seq=seq,
            reason=branch.reason or None,
        )
        context.state.branches += 1
        context.round.branches.append(branch)
    for position, segment in enumerate(branch.segments, branch.rung * len(branch.segments)):
        context.ledger.add(
            "branch_segments", branch_id=identity, position=position, session_id=context.session, segment_id=segment
        )


def record_longer(context: SessionContext, branches: Sequence[Branch], reason: str) -> None:
    """Branches of a screen are given a further seed, for this reason."""
    names = ", ".join(branch.arm for branch in branches)
    context.event("branch", f"a further seed of the screen for {names}: “{reason}”", agent="validator")
    for branch in branches:
        _add_looks(context, branch)


def record_screen(
    context: SessionContext,
    screen: Screen,
    arms: Mapping[str, list[dict[str, Any]]],
    result: ScreenResult,
    further: int = 0,
    claim: Checked | None = None,
) -> None:
    """A rung of a screen is ranked; ``arms`` are the control's and candidates' measures with their sources, by seed.

    ``further``: seeds it was given after it had been ranked first; ``claim``: why, as it was checked.
    """
    screen = context.as_kept(screen)
    event = "comparison", f"{screen.comparison} screen: {result.reason}"
    inputs = _inputs(context, arms, rung=screen.rung)
    inputs |= {"further": further, "extended": screen.extended} if further else {}
    seq = _add_comparison(context, screen.comparison, "screen", None, inputs, result, event)
    if claim is not None:
        keep_claim(context, claim, str(seq), seq)
    context.round.screens.append(screen)


def record_confirmation(context: SessionContext, confirmed: VerdictRecord, trial: Trial) -> None:
    """A confirmation is judged; what the Validator may report is ``confirmed``."""
    confirmed, name = context.as_kept(confirmed), context.next_comparison
    for branch in trial.branches:
        _add_looks(context, branch)
    event = "comparison", f"{name} confirm: {trial.verdict.reason}"
    inputs = _inputs(context, trial.arms, **trial.beside, wording=WORDING)
    _add_comparison(context, name, "confirm", confirmed.candidate, inputs, trial.verdict, event)
    context.round.confirmations.append(confirmed)
    context.state.level_spent = round(context.state.level_spent + size_of(confirmed), 12)


def _add_looks(context: SessionContext, branch: Branch) -> None:
    """The segments that were added to a branch since it was launched."""
    (launched,) = (each for each in context.round.branches if each.name == branch.name)
    for position in range(len(launched.segments), len(branch.segments)):
        context.ledger.add(
            "branch_segments",
            branch_id=context.row_id(branch.name),
            position=position,
            session_id=context.session,
            segment_id=branch.segments[position],
        )
    context.round.branches = [branch if each.name == branch.name else each for each in context.round.branches]


def record_probation(
    context: SessionContext, arms: Mapping[str, dict[str, Any]] | None = None, result: ProbationVerdict | None = None
) -> str | None:
    """A promotion's probation is over; returns the name of the comparison, None where nothing was judged."""
    trial, context.state.probation = context.state.probation, None
    if trial is None or arms is None or result is None:
        return None
    name, status = context.next_comparison, "ok" if result.outcome == "held" else "error"
    event = "probation", f"{trial.candidate} {result.reason}"
    inputs = {"max_return": context.task.max_return, "arms": dict(arms)}
    _add_comparison(context, name, "probation", None, inputs, result, event, status, trial.round)
    return name


def seeds_text(number: int) -> str:
    """So many seeds, in words."""
    return "1 seed" if number == 1 else f"{number} seeds"


def _inputs(context: SessionContext, arms: Mapping[str, list[dict[str, Any]]], **beside: Any) -> dict[str, Any]:
    """What a screen or a confirmation rests on."""
    return {
        "max_return": context.task.max_return,
        "progress_declared": context.task.progress is not None,
        "order": list(arms),
        "arms": dict(arms),
        **beside,
    }


def _add_comparison(
    context: SessionContext,
    name: str,
    purpose: str,
    candidate: str | None,
    inputs: dict[str, Any],
    result: ScreenResult | Verdict | Look | ProbationVerdict,
    event: tuple[str, str],
    status: str = "ok",
    round_: int | None = None,
) -> int:
    """Write a comparison of the present round, unless another is given; returns the number of its event."""
    identity = context.row_id(name)
    seq = context.event(*event, status=status, ref=("comparisons", identity))
    context.ledger.add(
        "comparisons",
        id=identity,
        session_id=context.session,
        round=context.round.number if round_ is None else round_,
        refinement=context.state.refinement if round_ is None else 0,
        purpose=purpose,
        candidate_id=context.candidate_id(candidate),
        event_seq=seq,
        inputs=inputs,
        result=result.model_dump(mode="json"),
        settings=context.settings.gate.model_dump(mode="json"),
        code_version=code_version(),
    )
    context.state.comparisons += 1
    return seq

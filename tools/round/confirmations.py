"""Confirmations: which candidate may be confirmed now, on which seeds, in which order and at which level.

A round has one confirmation for its first proposal and one for each refinement it may have. Whatever picks the
candidate (the screen's ranking, the Validator, the Coordinator), the guarantee rests on seeds and episodes that no
choice has seen: those of every confirmation are its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from learning_signal.marl.gate.measure import later_half_mean
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.spending import afford_segments
from learning_signal.tools.state import CONTROL, Branch, RoundFacts, Screen, VerdictRecord


def judged(context: SessionContext) -> list[VerdictRecord]:
    """The confirmations of the present refinement that were judged, in their order."""
    return [each for each in context.round.confirmations if each.refinement == context.state.refinement]


def confirmations_left(context: SessionContext) -> int:
    """How many more the present round may make."""
    return 1 + context.settings.deliberation.refinements - len(context.round.confirmations)


def next_level(context: SessionContext, after: VerdictRecord | None = None) -> float:
    """The level of the confirmation that is made or may be made now: a share of what the session has left.

    ``after`` is one that is judged, but not recorded yet.
    """
    later = max(context.settings.rounds - context.round.number, 0) * (1 + context.settings.deliberation.refinements)
    left, spent = confirmations_left(context), context.state.level_spent
    if after is not None:
        left, spent = left - 1, spent + (after.size or 0.0)
    return context.settings.gate.level(spent, later + max(left, 1))


def order_in_force(context: SessionContext) -> tuple[Order, str]:
    """The order of the present confirmation, and the name of the screen, or of the segment, that it rests on."""
    screen = screen_over(context)
    if screen is not None and screen.order is not None:
        return screen.order, screen.comparison
    head = context.trainer.stored(context.head.segment)
    declared = context.task.progress is not None
    return order_of({"the main run": [later_half_mean(head.evaluations_of("query"))]}, declared), head.id


def needs_screen(context: SessionContext) -> bool:
    """Whether the present candidates must be screened: a single one goes straight to confirmation."""
    return len(context.round.proposals[-1].candidates) > 1


def screen_over(context: SessionContext) -> Screen | None:
    """The last rung of the present refinement's screen, once that is over, with the further seeds it was given."""
    over = [each for each in context.round.screens if each.refinement == context.state.refinement]
    return over[-1] if over and over[-1].goes_on is None else None


def confirmable(context: SessionContext) -> tuple[str, ...]:
    """The candidates that may be confirmed, best first; empty where none did better than the control in the screen.

    ``ToolRefused`` while a screen is owed.
    """
    done = {each.candidate for each in context.round.confirmations}
    if not needs_screen(context):
        names: Sequence[str] = (context.round.proposals[-1].candidates[0].name,)
    else:
        screen = screen_over(context)
        if screen is None:
            raise ToolRefused(
                "Found no screen yet, expected one before a confirmation: code runs it before your phase begins."
            )
        names = screen.confirmable if screen.confirmable is not None else [screen.chosen] if screen.chosen else []
        names = names if context.settings.deliberation.choice else names[:1]
    return tuple(name for name in names if name not in done)


def further_seeds(context: SessionContext) -> int:
    """How many seeds the present refinement's screen may still be given."""
    gate = context.settings.gate
    if not gate.judge.sequential or gate.screen_halvings or not context.settings.deliberation.choice:
        return 0
    given = [
        len(each.segments) - gate.screen_seeds
        for each in context.round.branches
        if (each.purpose, each.refinement) == ("screen", context.state.refinement)
    ]
    return gate.screen_further - max(given, default=0)


def refuse_further_seed(context: SessionContext, candidates: Sequence[str]) -> None:
    """``ToolRefused`` where the screen may not be given another seed for these candidates now."""
    screen = screen_over(context)
    if screen is None or not needs_screen(context):
        raise ToolRefused("Found no screen that is over, expected one: confirm a candidate, or submit_validation.")
    if any(each.purpose == "confirm" and each.refinement == screen.refinement for each in context.round.branches):
        raise ToolRefused(
            "Found a confirmation begun after this screen, expected the screen's end before: go on with it."
        )
    if further_seeds(context) <= 0:
        raise ToolRefused("Found no further seed left for this screen: confirm a candidate, or submit_validation.")
    ranked = [name for name, difference in screen.differences.items() if difference is not None]
    if unknown := [name for name in candidates if name not in ranked]:
        raise ToolRefused(
            f"Found {', '.join(unknown)}, expected some of {', '.join(ranked) or 'none'}, which the last screen "
            "ranked: name those."
        )


def in_progress(context: SessionContext) -> str | None:
    """The candidate whose confirmation is launched and not judged yet, or None."""
    for branch in context.round.branches:
        if branch.purpose == "confirm" and branch.arm != CONTROL and branch.attempt == _attempt(context):
            return branch.arm
    return None


def is_sealed(context: SessionContext, branch: Branch, facts: RoundFacts | None = None) -> bool:
    """Whether nobody may see what a branch measures yet: it belongs to a confirmation that is not judged.

    ``facts`` are those of its round; None for the present one. A confirmation of an earlier round that was never judged
    stays sealed.

    Whoever saw the numbers could leave off a confirmation that goes badly, and its level would not be spent.
    """
    judged_ones = len((facts or context.round).confirmations)
    return branch.purpose == "confirm" and branch.attempt >= judged_ones and context.settings.gate.judge.tests


def asked_for(context: SessionContext) -> str | None:
    """The candidate that the Coordinator sent the round back for, until it is confirmed or no confirmation is left."""
    asked = context.round.sent_back
    done = {each.candidate for each in context.round.confirmations}
    if asked is None or asked.candidate in done or confirmations_left(context) <= 0:
        return None
    return asked.candidate if asked.candidate in confirmable(context) else None


def candidate_to_confirm(context: SessionContext) -> str:
    """The candidate that is confirmed, or would be unless another is named; ``ToolRefused`` where none can be."""
    present = in_progress(context)
    if present is not None:
        return present
    open_ = confirmable(context)
    if not open_ and judged(context):
        raise ToolRefused("Found every confirmable candidate judged: submit_validation with the last verdict.")
    if not open_:
        raise ToolRefused("The screen chose no candidate: submit_validation with candidate null, inconclusive.")
    asked = asked_for(context)
    return asked if asked is not None and asked in open_ else open_[0]


def refuse_confirmation(context: SessionContext, arm: str, reason: str) -> None:
    """``ToolRefused`` where this arm may not be launched for a confirmation now, with what may be."""
    present, expected = in_progress(context), candidate_to_confirm(context)
    if arm == CONTROL or arm == present:
        _refuse_more(context)
        return
    if present is not None:
        raise ToolRefused(
            f"Found a confirmation of {arm} while that of {present} is not judged, expected one at a time: call "
            f"confirm with {present} first."
        )
    _refuse_more(context)
    open_ = confirmable(context)
    if arm not in open_:
        raise ToolRefused(
            f"Found a confirmation of {arm}, expected {' or '.join(open_)} (better than the control in the screen, not "
            f"confirmed yet) or {CONTROL}: confirm one of them."
        )
    if arm != expected and asked_for(context) is not None:
        raise ToolRefused(
            f"Found a confirmation of {arm}, expected {expected}, for which the Coordinator sent the round back: "
            f"confirm {expected}."
        )
    if arm != expected and not reason.strip():
        raise ToolRefused(
            f"Found a confirmation of {arm} while the ranking has {expected} first, expected a reason with it: call "
            "again with the argument reason."
        )


def _refuse_more(context: SessionContext) -> None:
    """``ToolRefused`` where the present phase may make no further confirmation."""
    passed = [each.candidate for each in judged(context) if each.outcome == "pass"]
    if passed and asked_for(context) is None:
        raise ToolRefused(f"Found a further confirmation although {passed[-1]} passed: submit_validation.")
    if confirmations_left(context) <= 0:
        raise ToolRefused(
            f"Found {len(context.round.confirmations)} confirmations in this round, which may make no more: "
            "submit_validation with the last verdict."
        )


def present_branch(context: SessionContext, arm: str) -> Branch | None:
    """The branch of an arm in the confirmation that is in progress, or None."""
    for branch in context.round.branches:
        if (branch.purpose, branch.arm, branch.attempt) == ("confirm", arm, _attempt(context)):
            return branch
    return None


def confirm_specs(context: SessionContext, arm: str, attempt: int, refinement: int, count: int) -> list[SegmentSpec]:
    """The first ``count`` segments of an arm in the round's confirmation number ``attempt`` (from 0).

    Arms of a sequential confirmation share no seed; those of other judges are pairs, by refinement.
    """
    seed, number = context.settings.seed, context.round.number
    if context.settings.gate.judge.sequential:
        place: tuple[int | str, ...] = (attempt, "control" if arm == CONTROL else "candidate")
    else:
        place = (refinement,)
    seeds = [derive(seed, "confirm", number, *place, index) for index in range(count)]
    shaping = context.shaping_of(arm)
    return [
        context.trainer.spec(context.head.segment, shaping, context.branch_steps, each, "confirm") for each in seeds
    ]


def first_count(context: SessionContext) -> int:
    """Segments of each arm that a confirmation begins with."""
    gate = context.settings.gate
    return 1 if gate.judge.sequential else gate.confirm_seeds


def one_more(context: SessionContext, branches: Sequence[Branch]) -> list[Branch]:
    """The same branches with one more segment each, launched; ``OutOfBudget`` where these do not fit."""
    specs = [
        confirm_specs(context, each.arm, each.attempt, each.refinement, len(each.segments) + 1)[-1] for each in branches
    ]
    afford_segments(context, f"look {len(branches[0].segments) + 1} of the confirmation", specs)
    return [
        branch.model_copy(update={"segments": (*branch.segments, context.trainer.launch(spec, "confirm", branch.arm))})
        for branch, spec in zip(branches, specs, strict=True)
    ]


def offer(context: SessionContext, after: VerdictRecord | None = None) -> dict[str, object]:
    """What a confirmation would cost and rest on, for the agents: shown before one is chosen.

    ``after`` is one that is judged, but not recorded yet.
    """
    left = confirmations_left(context) - (after is not None)
    shown: dict[str, object] = {"confirmations_left": left, "env_steps_per_branch": context.branch_steps}
    gate = context.settings.gate
    if not gate.judge.sequential or left <= 0:
        return shown
    level = next_level(context, after)
    plan = design(level, gate.looks)
    return shown | {
        "level": round(level, 6),
        "most_branches": 2 * gate.looks,
        "branches_expected_if_nothing_differs": round(plan.branches, 2),
    }


def _attempt(context: SessionContext) -> int:
    return len(context.round.confirmations)

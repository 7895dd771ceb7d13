"""Speculation: the control is trained while the agents talk, because every proposal is compared with it."""

from __future__ import annotations

from collections.abc import Sequence

from learning_signal.ledger.wording import short
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.cost import round_cost
from learning_signal.tools.round.branches import screen_specs
from learning_signal.tools.round.confirmations import confirm_specs, first_count
from learning_signal.tools.round.record import record_speculation
from learning_signal.tools.spending import afford
from learning_signal.tools.state import CONTROL

UNUSED = "The round ended without this segment, so it was withdrawn."


def prepare(context: SessionContext) -> None:
    """Before a step: check that the branches of a new round or refinement fit the budget, then start the control.

    So no agent proposes what cannot be tested.
    """
    state, talk = context.state, context.settings.deliberation
    first = state.phase == ("critic" if talk.critic else "generator") and state.refinement == 0
    again = state.phase == "generator" and state.refinement > 0
    if state.step == 0 and (first and context.round.speculated is None or again):
        price = round_cost(context.settings, context.task)
        refined = f"refinement {state.refinement} of round {context.round.number}"
        afford(
            context,
            refined if again else f"round {context.round.number}",
            pieces=2 * first_count(context),
            env_steps=price.refinement if again else price.first,
        )
    if first or state.phase == "generator" and not again:
        speculate(context)
    afford(context, "the next step")


def speculate(context: SessionContext) -> None:
    """Start the control's segments of the present round at low priority; a second call is a no-op.

    Both purposes are started: the screen's segments are used whenever there is more than one candidate, those of the
    first confirmation unless nothing could be compared. A launch by the Validator finds them in flight.
    """
    begun = context.round.speculated
    if not context.settings.speculate or begun and all(map(context.trainer.known, begun)):
        return
    specs = _control(context)
    if all(context.trainer.known(spec.id) for _, spec in specs):
        return
    if context.round.speculated is None:
        with context.ledger.transaction("speculation"):
            steps = short(sum(spec.env_steps for _, spec in specs))
            title = f"the control starts early: {_segments(len(specs))}, {steps} env steps"
            record_speculation(context, [spec.id for _, spec in specs], title)
            for purpose, spec in specs:
                context.trainer.note_start(spec, purpose, CONTROL)
            context.ledger.save_cursor(context.session, context.state.model_dump(mode="json"))
    for purpose, spec in specs:
        context.trainer.launch(spec, purpose, CONTROL, urgent=False)


def settle(context: SessionContext) -> None:
    """At the end of a round: withdraw its segments that have not started, speculative or not. Belongs in a transaction.

    Segments in flight are finished and count; the session waits for them before its report (``finish``).
    """
    used = {row["segment_id"] for row in context.ledger.find("branch_segments", session_id=context.session)}
    speculated = context.round.speculated or []
    unused = [segment for segment in speculated if segment not in used]
    withdrawn = [segment for segment in _pending(context) if context.trainer.withdraw(segment, UNUSED)]
    notes = []
    if unused:
        notes.append(f"{len(unused)} of {_segments(len(speculated), 'speculative ')} {_were(unused)} not used")
    if withdrawn:
        notes.append(f"{_segments(len(withdrawn))} that had not begun {_were(withdrawn)} withdrawn")
    if notes:
        context.event("speculation", "; ".join(notes))


async def finish(context: SessionContext) -> None:
    """Wait for the segments still in flight, so that all training is counted."""
    for segment in _pending(context):
        if not context.trainer.withdraw(segment, UNUSED):
            try:
                await context.trainer.result(segment)
            except SegmentFailed:
                continue


def _segments(number: int, what: str = "") -> str:
    return f"{number} {what}segment{'s' * (number != 1)}"


def _were(segments: Sequence[str]) -> str:
    return "was" if len(segments) == 1 else "were"


def _pending(context: SessionContext) -> list[str]:
    """The segments of the session that are not finished; outside a stage they are of branches."""
    return [row["id"] for row in context.ledger.find("segments", session_id=context.session, status="pending")]


def _control(context: SessionContext) -> list[tuple[Purpose, SegmentSpec]]:
    """The control's segments before any refinement, in the order in which they will be asked for."""
    specs: dict[str, tuple[Purpose, SegmentSpec]] = {}
    if context.settings.deliberation.candidates > 1 or context.settings.gate.judge.confirms_on == "screen":
        specs |= {spec.id: ("screen", spec) for spec in screen_specs(context, context.head.shaping, 0)}
    if context.settings.gate.judge.confirms_on == "confirm":
        for spec in confirm_specs(context, CONTROL, 0, 0, first_count(context)):
            specs.setdefault(spec.id, ("confirm", spec))
    return list(specs.values())

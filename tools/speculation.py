"""The control of a round is trained while its agents talk: whatever they propose, it is what they compare with."""

from __future__ import annotations

from marl.segment import SegmentFailed, SegmentSpec
from tools.branches import CONTROL, arm_specs
from tools.budget import short
from tools.contracts import Purpose
from tools.desk import Desk

UNUSED = "The round ended without this segment, so it was withdrawn."


def speculate(desk: Desk) -> None:
    """Begin the control's segments of the present round, after everything that is asked for; a second call is free.

    Both purposes: the screen's are used whenever there is more than one candidate, those of the first confirmation
    unless nothing could be compared. What the Validator launches later is found in flight.
    """
    if not desk.settings.speculate:
        return
    wanted = _control(desk)
    if all(desk.trainer.known(spec.id) for _, spec in wanted):
        return
    if desk.round.speculated is None:
        with desk.ledger.transaction("speculation"):
            steps = short(sum(spec.env_steps for _, spec in wanted))
            desk.event("speculation", f"the control is trained meanwhile: {len(wanted)} segments, {steps} env steps")
            for purpose, spec in wanted:
                desk.trainer.note_start(spec, purpose, CONTROL)
            desk.round.speculated = [spec.id for _, spec in wanted]
            desk.ledger.save_cursor(desk.session, desk.state.model_dump(mode="json"))
    for purpose, spec in wanted:
        desk.trainer.launch(spec, purpose, CONTROL, urgent=False)


def settle(desk: Desk) -> None:
    """At the end of a round: withdraw whatever of it has not begun, speculated or not. Belongs in a transaction.

    What is being computed is finished and counts; the session waits for it before its report (``finish``).
    """
    used = {row["segment_id"] for row in desk.ledger.find("branch_segments", session_id=desk.session)}
    speculated = desk.round.speculated or []
    unused = [segment for segment in speculated if segment not in used]
    withdrawn = [segment for segment in _pending(desk) if desk.trainer.withdraw(segment, UNUSED)]
    said = [f"{len(unused)} of {len(speculated)} speculated segments were not used"] if unused else []
    said += [f"{len(withdrawn)} segments that had not begun were withdrawn"] if withdrawn else []
    if said:
        desk.event("speculation", "; ".join(said))


async def finish(desk: Desk) -> None:
    """Wait for what no round has waited for, so that all that was trained is counted."""
    for segment in _pending(desk):
        if not desk.trainer.withdraw(segment, UNUSED):
            try:
                await desk.trainer.result(segment)
            except SegmentFailed:
                continue


def _pending(desk: Desk) -> list[str]:
    """The segments of the session that are not finished; outside a stage they are of branches."""
    return [row["id"] for row in desk.ledger.find("segments", session_id=desk.session, status="pending")]


def _control(desk: Desk) -> list[tuple[Purpose, SegmentSpec]]:
    """The control's segments before any refinement, in the order in which they will be asked for."""
    purposes: list[Purpose] = ["screen", "confirm"] if desk.settings.deliberation.candidates > 1 else ["confirm"]
    shaping = desk.state.head.shaping
    specs: dict[str, tuple[Purpose, SegmentSpec]] = {}
    for purpose in purposes:
        for spec in arm_specs(desk, shaping, purpose, 0):
            specs.setdefault(spec.id, (purpose, spec))
    return list(specs.values())

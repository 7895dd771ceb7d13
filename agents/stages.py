"""The end of a stage: HEAD moves on, a promotion on probation is judged, and a round begins where one is needed."""

from __future__ import annotations

from agents.deliberation import Deliberation
from ledger.sessions import now
from marl.segment import SegmentResult
from marl.shaping import ShapingConfig
from tools.briefs import head_card, stage_of
from tools.desk import Desk
from tools.need import need, no_need, standing_of
from tools.price import round_price
from tools.probation import judge_probation
from tools.state import Head, Need


def conclude_stage(desk: Desk, deliberation: Deliberation, result: SegmentResult) -> None:
    """Take in the segment of a stage and decide what follows, all in one transaction."""
    state = desk.state
    before, shaping = state.head, state.head.shaping if state.head else ShapingConfig.none()
    with desk.ledger.transaction("stage"):
        state.head = Head(segment=result.id, env_steps=result.end_env_steps, shaping=shaping)
        state.stages, state.stages_without = state.stages + 1, state.stages_without + 1
        desk.ledger.add(
            "main_run", session_id=desk.session, segment_id=result.id, round=state.round_number or None,
            reason="stage", at=now(),
        )
        card, label = head_card(desk, state.head), stage_of(desk)
        desk.event(
            "stage",
            f"{label}: {state.head.env_steps:,} env steps, sparse return {card['sparse_return']}, "
            f"progress {card['progress']}", ref=("segments", result.id),
        )
        regression = judge_probation(desk)
        if state.before is None:
            state.before = state.head
        if regression is not None:
            why = Need(reason="regression", text=f"{regression.candidate} {regression.reason}")
            deliberation.open_round(label, why, regression)
        elif state.round_number >= desk.settings.rounds:
            rounds = desk.settings.rounds
            _no_round(desk, f"all {rounds} are used up" if rounds > 1 else "the only one is used up")
            state.phase = "report"
        elif state.stages >= desk.settings.most_stages:
            _no_round(desk, f"this was the last of {state.stages} stages")
            state.phase = "report"
        else:
            _decide(desk, deliberation, label, before)
        desk.ledger.save_cursor(desk.session, state.model_dump(mode="json"))


def _decide(desk: Desk, deliberation: Deliberation, label: str, before: Head | None) -> None:
    standing, settings = standing_of(desk, label, before), desk.settings.need
    why = need(standing, settings)
    if why is None:
        _no_round(desk, no_need(standing, settings))
        return
    price = round_price(desk.settings, desk.task).describe(desk.stage_steps)
    since = f"; {standing.stages} stages since the last round" if standing.rounds and standing.stages > 1 else ""
    deliberation.open_round(label, why.model_copy(update={"text": f"{why.text}{since}; {price}"}))


def _no_round(desk: Desk, why: str) -> None:
    desk.event("need", f"no round now: {why}")

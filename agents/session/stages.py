"""The end of a stage: HEAD moves on, a promotion on probation is judged, and a round begins where one is needed."""

from __future__ import annotations

from learning_signal.agents.deliberation import Deliberation
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.briefs.cards import head_card, stage_of
from learning_signal.tools.candidates.offers import grant_wishes, wish
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.cost import round_cost, round_evaluation
from learning_signal.tools.round.probation import judge_probation
from learning_signal.tools.round.record import record_stage
from learning_signal.tools.stage import StageLabel
from learning_signal.tools.state import Head, Trigger
from learning_signal.tools.trigger import no_trigger, standing_of, trigger


def conclude_stage(context: SessionContext, deliberation: Deliberation, result: SegmentResult) -> None:
    """Take in the segment of a stage and decide what follows, all in one transaction."""
    state = context.state
    before = state.head
    with context.ledger.transaction("stage"):
        record_stage(context, result)
        card, label = head_card(context, context.head), stage_of(context)
        context.event(
            "stage",
            f"{label}: {context.head.env_steps:,} env steps, sparse return {card['sparse_return']}, "
            f"progress {card['progress']}",
            ref=("segments", result.id),
        )
        regression = judge_probation(context)
        if state.before is None:
            state.before = state.head
        if regression is not None:
            why = Trigger(reason="regression", text=f"{regression.candidate} {regression.reason}")
            deliberation.open_round(label, why, regression)
        elif state.round_number >= context.settings.rounds:
            rounds = context.settings.rounds
            _no_round(context, f"all {rounds} are used up" if rounds > 1 else "the only one is used up")
            state.phase = "report"
        elif state.stages >= context.settings.most_stages:
            _no_round(context, f"this was the last of {state.stages} stages")
            state.phase = "report"
        else:
            _decide(context, deliberation, label, before)
        context.ledger.save_cursor(context.session, state.model_dump(mode="json"))


def _decide(context: SessionContext, deliberation: Deliberation, label: StageLabel, before: Head | None) -> None:
    standing, settings = standing_of(context, label, before), context.settings.trigger
    why = trigger(standing, settings) or wish(context)
    if why is None:
        _no_round(context, no_trigger(standing, settings))
        return
    evaluation = round_evaluation(context.settings, context.task)
    price = round_cost(context.settings, context.task).describe(context.stage_steps, evaluation)
    since = f"; {standing.stages} stages since the last round" if standing.rounds and standing.stages > 1 else ""
    deliberation.open_round(label, why.model_copy(update={"text": f"{why.text}{since}; {price}"}))
    grant_wishes(context, price)


def _no_round(context: SessionContext, why: str) -> None:
    context.event("need", f"no round now: {why}")

"""Probation: one stage after a promotion, does the main run do at least as well on the same held-out episodes?"""

from __future__ import annotations

from learning_signal.marl.gate.probation import probation
from learning_signal.marl.segments.records import Evaluation
from learning_signal.tools.context import SessionContext
from learning_signal.tools.round.record_branches import record_probation
from learning_signal.tools.state import Head, Regression
from learning_signal.tools.trainer import final_evaluation


def judge_probation(context: SessionContext) -> Regression | None:
    """Judge the promotion on probation, if there is one, and write the comparison; returns the regression, if any.

    A gate whose judge has no probation judges nothing here.
    """
    trial = context.state.probation
    if not context.settings.gate.judge.holds_probation:
        record_probation(context)
        return None
    if trial is None:
        return None
    heads = {"before": trial.parent, "after": context.head}
    before, after = (_held_out(context, head) for head in heads.values())
    verdict = probation(
        before.sparse_returns,
        after.sparse_returns,
        before.progress,
        after.progress,
        context.task.largest_return,
        context.settings.gate,
    )
    arms = {
        arm: {"segment": head.segment, "episode_set": "confirm", "evaluation": evaluation.env_steps}
        for (arm, head), evaluation in zip(heads.items(), (before, after), strict=True)
    }
    name = record_probation(context, arms, verdict)
    if name is None or verdict.outcome == "held":
        return None
    return Regression(
        round=trial.round, candidate=trial.candidate, parent=trial.parent, comparison=name, reason=verdict.reason
    )


def _held_out(context: SessionContext, head: Head) -> Evaluation:
    return final_evaluation(context.trainer.stored(head.segment), "confirm")

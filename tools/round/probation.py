"""Probation: one stage after a promotion, does the main run do at least as well on the same held-out episodes?"""

from __future__ import annotations

from learning_signal.marl.gate.probation import probation
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.version import code_version
from learning_signal.tools.context import SessionContext
from learning_signal.tools.state import Head, Regression
from learning_signal.tools.trainer import final_evaluation


def judge_probation(context: SessionContext) -> Regression | None:
    """Judge the promotion on probation, if there is one, and write the comparison; the regression if there is one.

    Nothing is judged where the gate's judge holds no promotion on probation.
    """
    trial = context.state.probation
    if not context.settings.gate.judge.holds_probation:
        trial = context.state.probation = None
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
    context.state.comparisons += 1
    name = f"C{context.state.comparisons}"
    seq = context.event(
        "probation",
        f"{trial.candidate} {verdict.reason}",
        status="ok" if verdict.outcome == "held" else "error",
        ref=("comparisons", context.row_id(name)),
    )
    arms = {
        arm: {"segment": head.segment, "episode_set": "confirm", "evaluation": evaluation.env_steps}
        for (arm, head), evaluation in zip(heads.items(), (before, after), strict=True)
    }
    context.ledger.add(
        "comparisons",
        id=context.row_id(name),
        session_id=context.session,
        round=trial.round,
        refinement=0,
        purpose="probation",
        candidate_id=None,
        event_seq=seq,
        inputs={"max_return": context.task.max_return, "arms": arms},
        result=verdict.model_dump(mode="json"),
        settings=context.settings.gate.model_dump(mode="json"),
        code_version=code_version(),
    )
    context.state.probation = None
    if verdict.outcome == "held":
        return None
    return Regression(
        round=trial.round, candidate=trial.candidate, parent=trial.parent, comparison=name, reason=verdict.reason
    )


def _held_out(context: SessionContext, head: Head) -> Evaluation:
    return final_evaluation(context.trainer.stored(head.segment), "confirm")

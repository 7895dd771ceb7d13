"""Probation: one stage after a promotion, does the main run do at least as well on the same held-out episodes?"""

from __future__ import annotations

from marl.gate import probation
from marl.segment import code_version
from tools.desk import Desk
from tools.state import Head, Regression
from tools.trainer import final_evaluation


def judge_probation(desk: Desk) -> Regression | None:
    """Judge the promotion on probation, if there is one, and write the comparison; the regression if there is one.

    The rules that test nothing, controls of a study, do not undo either: probation is a part of the gate.
    """
    trial = desk.state.probation
    if desk.settings.gate.rule != "paired":
        trial = desk.state.probation = None
    if trial is None:
        return None
    heads = {"before": trial.parent, "after": desk.state.head}
    before, after = (_held_out(desk, head) for head in heads.values())
    verdict = probation(
        before.sparse_returns, after.sparse_returns, before.progress, after.progress, desk.task.max_return,
        desk.settings.gate,
    )
    desk.state.comparisons += 1
    name = f"C{desk.state.comparisons}"
    seq = desk.event(
        "probation", f"{trial.candidate} {verdict.reason}", status="ok" if verdict.outcome == "held" else "error",
        ref=("comparisons", desk.row_id(name)),
    )
    arms = {
        arm: {"segment": head.segment, "episode_set": "confirm", "evaluation": evaluation.env_steps}
        for (arm, head), evaluation in zip(heads.items(), (before, after), strict=True)
    }
    desk.ledger.add(
        "comparisons", id=desk.row_id(name), session_id=desk.session, round=trial.round, refinement=0,
        purpose="probation", candidate_id=None, event_seq=seq,
        inputs={"max_return": desk.task.max_return, "arms": arms}, result=verdict.model_dump(mode="json"),
        settings=desk.settings.gate.model_dump(mode="json"), code_version=code_version(),
    )
    desk.state.probation = None
    if verdict.outcome == "held":
        return None
    return Regression(
        round=trial.round, candidate=trial.candidate, parent=trial.parent, comparison=name, reason=verdict.reason
    )


def _held_out(desk: Desk, head: Head):
    return final_evaluation(desk.trainer.stored(head.segment), "confirm")

"""What briefs are made of: where the main run stands, a candidate, a shaping, and what a good rise of Phi is."""

from __future__ import annotations

from typing import Any

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.base import rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.evidence.sources import lineage
from learning_signal.tools.stage import StageLabel, stage_label
from learning_signal.tools.state import Head
from learning_signal.tools.trainer import final_evaluation


def stage_of(context: SessionContext) -> StageLabel:
    """The label of the present stage, from the query evaluations of the main run."""
    points = [
        (evaluation.env_steps, evaluation.sparse_return, evaluation.mean_progress)
        for result in lineage(context)
        for evaluation in result.evaluations_of("query")
    ]
    return stage_label(points, context.task.largest_return, context.settings.gate.floor)


def good_rise(context: SessionContext) -> float:
    """``rise_on`` the task of this session with its learner's discount."""
    return rise_on(context.task, context.settings.run.learner.discount)


def rise_on(task: TaskSpec, discount: float) -> float:
    """The rise of ``beta * Phi`` over a good episode: a tenth of the return within reach.

    Within reach is ``max_return``, or in episodes longer than the discount's horizon of ``1 / (1 - gamma)`` steps the
    share of it that falls within that horizon. With MAPPO on `foraging` (8x8-2p-2f-coop, max_return 1, distance to a
    common food, 4 or 5 seeds) a rise of 0.1 reaches 0.9 in about half the env steps of no shaping, one of 0.4 is as
    fast and often falls back, and one of 1.6 stays near a half.
    """
    reach = 1.0 if discount == 1 else min(1.0, 1 / ((1 - discount) * task.horizon))
    return 0.1 * reach * task.largest_return


def head_card(context: SessionContext, head: Head) -> dict[str, Any]:
    """Where a head stands, measured on the query episodes."""
    evaluation = final_evaluation(context.trainer.stored(head.segment), "query")
    return {
        "env_steps": head.env_steps,
        "sparse_return": rounded(evaluation.sparse_return),
        "progress": rounded(evaluation.mean_progress),
        "shaping": shaping_card(head.shaping),
    }


def candidate_card(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "shaping_text": shaping_text(candidate.shaping.canonical()),
        "rationale": candidate.rationale,
        "forecast": candidate.forecast.model_dump(),
    }


def shaping_card(shaping: ShapingConfig) -> dict[str, Any]:
    """A shaping as data; without ``anneal`` where there is none."""
    return shaping.model_dump(mode="json", exclude_none=True)

"""What briefs are made of: the task, its features, where the main run stands, a candidate, the gate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.base import rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Candidate
from learning_signal.tools.evidence.sources import lineage
from learning_signal.tools.round.confirmations import next_level
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


def task_card(context: SessionContext) -> dict[str, Any]:
    """The task in words and sizes."""
    task = context.task
    return {
        "name": task.name,
        "description": task.description,
        "sparse_reward": task.sparse_reward,
        "progress": task.progress,
        "max_return": task.max_return,
        "agents": task.agents,
        "horizon": task.horizon,
        "actions_are": "numbers in [-1, 1]" if task.continuous else "choices",
        "groups": [
            {"name": group.name, "agents": list(group.agents), "actions": list(task.action_names[: group.actions])}
            for group in task.groups
        ],
    }


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


def features_card(context: SessionContext) -> list[dict[str, Any]]:
    """The declared features: all that shaping may use."""
    return [asdict(feature) for feature in context.task.features]


def head_card(context: SessionContext, head: Head) -> dict[str, Any]:
    """Where a head stands, measured on the query episodes."""
    evaluation = final_evaluation(context.trainer.stored(head.segment), "query")
    return {
        "env_steps": head.env_steps,
        "sparse_return": rounded(evaluation.sparse_return),
        "progress": rounded(evaluation.mean_progress),
        "max_return": context.task.max_return,
        "shaping": shaping_card(head.shaping),
        "shaping_text": shaping_text(head.shaping.canonical()),
    }


def gate_card(context: SessionContext) -> dict[str, Any]:
    """The gate's parameters; alpha is the level of the next confirmation."""
    gate = context.settings.gate
    alpha = next_level(context) if gate.judge.sequential else gate.shared_alpha(context.settings.confirmations)
    return gate.model_dump(mode="json") | {"alpha": alpha}


def candidate_card(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "shaping": shaping_card(candidate.shaping),
        "shaping_text": shaping_text(candidate.shaping.canonical()),
        "rationale": candidate.rationale,
        "forecast": candidate.forecast.model_dump(),
    }


def shaping_card(shaping: ShapingConfig) -> dict[str, Any]:
    return shaping.model_dump(mode="json")

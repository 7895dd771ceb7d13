"""The facts of a session that no step changes: task, features, learner, evaluation, limits; one JSON object per role.

They stand once, in the system prompt. Models and the rules read them there; briefs hold what changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from learning_signal.marl.settings import LearnerSettings
from learning_signal.marl.shaping.config import MAX_BETA, MAX_TERMS, MAX_WEIGHT
from learning_signal.marl.shaping.expression import GRAMMAR, MAX_NODES
from learning_signal.marl.tasks.base import Feature, TaskSpec
from learning_signal.tools.base import compact, rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.evidence.metrics import logged_metrics
from learning_signal.tools.roles import Role

OF_POLICIES = ("clip", "entropy", "epochs", "minibatches", "gae_lambda")
"""Settings of mappo and ippo alone that agents are told."""
OF_THE_TASK: dict[Role, tuple[str, ...]] = {
    "validator": ("name", "max_return", "progress", "horizon"),
    "coordinator": ("name", "description", "sparse_reward", "max_return", "progress", "agents", "horizon"),
}
"""What is told of the task to those who read numbers of it, and shape nothing."""
OF_VALUES = ("gradient_steps", "batch_size", "exploration_end", "exploration_env_steps")
"""Settings of qmix and vdn alone that agents are told."""


def facts(context: SessionContext, role: Role) -> dict[str, Any]:
    """What a role is told of its session once and for all."""
    task = task_facts(context.task)
    if role in OF_THE_TASK:
        task = {name: task[name] for name in OF_THE_TASK[role]}
    told: dict[str, Any] = {"task": task}
    if role in ("critic", "generator"):
        told["features"] = feature_table(context.task.features)
        told |= {"learner": learner_facts(context), "gate": gate_facts(context), "lengths": lengths(context)}
    if role == "generator":
        told |= {"limits": LIMITS, "good_rise": rounded(context.good_rise)}
        told |= {"candidates_wanted": context.settings.deliberation.candidates}
    told["evaluation"] = evaluation_facts(context)
    if role == "critic":  # the others rarely read any; query_metrics without names lists them
        told["metrics"] = list(logged_metrics(context))
    return told


def facts_text(context: SessionContext, role: Role) -> str:
    """The same as JSON text for a prompt, one line for each part."""
    lines = (f"{compact(name)}:{compact(value)}" for name, value in facts(context, role).items())
    return "{" + ",\n".join(lines) + "}"


def task_facts(task: TaskSpec) -> dict[str, Any]:
    """The task in words and sizes."""
    actions: Any = [
        {"name": group.name, "agents": list(group.agents), "actions": list(task.action_names[: group.actions])}
        for group in task.groups
    ]
    told = {
        "name": task.name,
        "description": task.description,
        "sparse_reward": task.sparse_reward,
        "progress": task.progress,
        "max_return": task.max_return,
        "agents": task.agents,
        "horizon": task.horizon,
        "actions_are": "numbers in [-1, 1]" if task.continuous else "choices",
    }
    return told | ({"actions": actions[0]["actions"]} if len(actions) == 1 else {"groups": actions})


def feature_table(features: Sequence[Feature]) -> dict[str, Any]:
    """The declared features, all that shaping may use, as a table: ``columns``, and a list per feature in ``rows``."""
    columns = ["name", "scope", "low", "high", "direction", "description"]
    return {"columns": columns, "rows": [[getattr(each, name) for name in columns] for each in features]}


def learner_facts(context: SessionContext) -> dict[str, Any]:
    """The learner's settings, and the largest entropy that its ``entropy`` can have."""
    learner, task = context.settings.run.learner, context.task
    own: dict[str, Any] = {"learning_rate": learner.learning_rate}
    own |= {name: getattr(learner, name) for name in OF_POLICIES}
    if learner.learns_values:
        own = {"learning_rate": learner.q_learning.learning_rate}
        own |= {name: getattr(learner.q_learning, name) for name in OF_VALUES}
    most = largest_entropy(learner, task)
    return {
        "algorithm": learner.algorithm,
        "gamma": learner.discount,
        "memory": learner.memory,
        "environments": learner.environments,
        "rollout_steps": learner.rollout_steps or task.horizon,
        **own,
        **({} if most is None else {"largest_entropy": rounded(most)}),
        "potentials_see": "raw feature values, not normalised",
    }


def largest_entropy(learner: LearnerSettings, task: TaskSpec) -> float | None:
    """Of a policy over choices, in nats, averaged over agents: log of the number of actions.

    None for numbers, whose entropy has no such bound, and for learners of values, which log none.
    """
    if task.continuous or learner.learns_values:
        return None
    sizes = [group.actions for group in task.groups for _ in group.agents]
    return sum(map(math.log, sizes)) / len(sizes)


def evaluation_facts(context: SessionContext) -> dict[str, Any]:
    """How policies are evaluated: always without shaping."""
    evaluation = context.settings.run.evaluation
    return {"episodes": evaluation.episodes, "actions": f"{evaluation.policy} from the policy", "shaping": "none"}


def gate_facts(context: SessionContext) -> dict[str, Any]:
    """The thresholds that a proposal meets, in the task's units."""
    gate, most = context.settings.gate, context.task.largest_return
    return {"floor": gate.floor * most, "delta": gate.delta * most, "delta_progress": gate.delta_progress}


def lengths(context: SessionContext) -> dict[str, Any]:
    """Env steps of a stage, a branch and a screen, and the tokens of a summary."""
    return {
        "stage_steps": context.stage_steps,
        "branch_steps": context.branch_steps,
        "screen_steps": context.screen_steps,
        "evidence_tokens": context.settings.deliberation.evidence_tokens,
    }


LIMITS = {"terms": MAX_TERMS, "weight": MAX_WEIGHT, "beta": MAX_BETA, "nodes": MAX_NODES, "grammar": GRAMMAR}
"""The bounds of a shaping."""

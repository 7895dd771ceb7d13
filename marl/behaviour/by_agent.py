"""What each agent does and where it stands in recorded episodes, agent by agent, as one number of each name."""

from __future__ import annotations

import math

import numpy as np

from learning_signal.marl.behaviour.actions import ActionSummary, action_names, summarize_actions
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.tasks.base import TaskSpec

ENTROPY = "action_entropy"
ACTION = "action:"
"""In front of the name of an action (or of a number of a continuous one), which a feature may also have."""


def defined(spec: TaskSpec) -> dict[str, str]:
    """What can be told of the agents of a task, and what each means."""
    words = "mean of this number of its actions" if spec.continuous else "share of its steps with this action"
    names = dict.fromkeys(name for each in action_names(spec) for name in each)
    entropy = (
        {}
        if spec.continuous
        else {
            ENTROPY: "entropy of its action shares over all its steps, in nats: 0 where it always does the same; not "
            "that of its policy in a state"
        }
    )
    return (
        entropy
        | {f"{ACTION}{name}": words for name in names}
        | {each.name: f"mean over its steps: {each.description}" for each in spec.features if each.scope == "agent"}
    )


def measured(record: BehaviourRecord, spec: TaskSpec) -> dict[str, tuple[float | None, ...]]:
    """``defined`` name -> one value per agent; None for one that never acted or does not have the action."""
    summary, names = summarize_actions(record, spec), action_names(spec)
    found: dict[str, tuple[float | None, ...]] = {}
    for name in defined(spec):
        if name == ENTROPY:
            found[name] = tuple(_entropy(summary, agent) for agent in range(spec.agents))
        elif name.startswith(ACTION):
            action = name.removeprefix(ACTION)
            found[name] = tuple(_value(summary, agent, action) for agent in range(len(names)))
        else:
            values = record.features[name]  # [T + 1, n, A]
            there = ~np.isnan(values).all(axis=(0, 1))
            found[name] = tuple(
                float(np.nanmean(values[..., agent])) if there[agent] else None for agent in range(spec.agents)
            )
    return found


def _value(summary: ActionSummary, agent: int, action: str) -> float | None:
    if summary.numbers is not None:
        moments = (summary.numbers[agent] or {}).get(action)
        return None if moments is None else moments[0]
    shares = None if summary.shares is None else summary.shares[agent]
    return None if shares is None else shares.get(action)


def _entropy(summary: ActionSummary, agent: int) -> float | None:
    shares = None if summary.shares is None else summary.shares[agent]
    return None if shares is None else -sum(share * math.log(share) for share in shares.values() if share > 0)

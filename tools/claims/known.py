"""What claims are held against besides tool results, taken from the session."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.tools.base import rounded
from learning_signal.tools.claims.mark import Known
from learning_signal.tools.context import SessionContext
from learning_signal.tools.trainer import final_evaluation


def known_of(context: SessionContext, reader: Reader) -> Known:
    """The record of the round in progress besides what is in rows of results."""
    task, learner = context.task, context.settings.run.learner
    head = final_evaluation(context.trainer.stored(context.head.segment), "query")
    sizes = [group.actions for group in task.groups for _ in group.agents]
    entropy = [] if task.continuous else [sum(map(math.log, sizes)) / len(sizes)]
    bounds = [task.max_return, task.largest_return, task.horizon, task.agents, *sizes[:1], *entropy]
    bounds += [
        context.settings.gate.floor * task.largest_return,
        1 / (1 - learner.discount) if learner.discount < 1 else 0,
    ]
    bounds += [bound for feature in task.features for bound in (feature.low, feature.high)]
    return Known(
        stage=context.round.stage,
        told={
            "head": {
                "env_steps": context.head.env_steps,
                "sparse_return": rounded(head.sparse_return),
                "progress": rounded(head.mean_progress),
            },
            "tried": [
                {"measure": each.measure, "difference": each.difference}
                for each in context.state.tried
                if each.difference is not None
            ],
            "lengths": [context.stage_steps, context.branch_steps, context.screen_steps],
        },
        bounds=tuple(sorted({float(each) for each in bounds if each is not None and math.isfinite(each)})),
        features=tuple(feature.name for feature in task.features),
        metrics=tuple(METRICS),
        names=tuple(sorted({*task.action_names, *_of_tools(context, reader)})),
    )


def _of_tools(context: SessionContext, reader: Reader) -> Iterator[str]:
    for agent in reader.agents(context.session):
        for schema in agent.tools:
            yield from _keys(schema)


def _keys(value: Any) -> Iterator[str]:
    """The name of a tool and those of its arguments and their fields."""
    if isinstance(value, dict):
        if isinstance(value.get("name"), str):
            yield value["name"]
        properties = value.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for each in value.values():
            yield from _keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)

"""Curves of single agents: what each does and where it stands, at the end of every segment behind a source.

A learner's own metrics are means over all agents, which share a policy; nothing of it is logged for one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from learning_signal.marl.behaviour.by_agent import measured
from learning_signal.marl.segments.segment import SegmentResult
from learning_signal.tools.context import SessionContext

Row = dict[str, float | None]


def agent_rows(context: SessionContext, results: Sequence[SegmentResult]) -> list[Row]:
    """One row for the query episodes at the end of each segment, a value for every name and agent."""
    rows: list[Row] = []
    for result in results:
        row: Row = {"env_steps": result.end_env_steps}
        for name, values in measured(context.trainer.behaviour(result.id), context.task).items():
            row |= {column(name, agent): value for agent, value in enumerate(values)}
        rows.append(row)
    return rows


def column(name: str, agent: int) -> str:
    """Where a row has the value of one agent."""
    return f"{name} of agent {agent}"


def columns(context: SessionContext, names: Sequence[str]) -> list[str]:
    """Where a row has what these names say of all agents."""
    return [column(name, agent) for name in names for agent in range(context.task.agents)]


def grouped(context: SessionContext, points: dict[str, list[Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """``points`` of single columns as one list per name, with the curve of every agent in their order."""
    everyone = range(context.task.agents)
    return {"env_steps": points["env_steps"]} | {
        name: [points[column(name, agent)] for agent in everyone] for name in names
    }

"""What every Critic reads first is read by code: calls of its own workbench, whose results stand in its brief."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.agents.call_ids import own_id
from learning_signal.agents.roles import Agent
from learning_signal.tools.base import compact
from learning_signal.tools.context import SessionContext
from learning_signal.tools.evidence.metrics import USUAL, logged_metrics

STEP = "first_look.0"
"""The step that these calls are made in: before the Critic's own first."""
IN_THE_PROMPT = ("sparse_return", "progress")
"""Metrics that the Critic's prompt defines, in training and in evaluation."""


async def first_look(context: SessionContext, critic: Agent) -> list[dict[str, Any]]:
    """``[{call, arguments, result}]`` of the calls that were answered: the usual metrics, and what agents do.

    They are recorded as any other call. Their ids follow from session, round and place, so that a resume in their
    midst goes on behind those that are done.
    """
    logged = logged_metrics(context)
    names = [name for name in USUAL if name in logged]
    offered = {schema["name"] for schema in critic.workbench.schemas}
    found = []
    for place, (name, arguments, beside) in enumerate(
        (
            ("query_metrics", {"names": names, "points": 8}, {"definitions": _definitions(names, logged)}),
            ("summarize_trajectories", {}, {}),
        )
    ):
        if name not in offered:
            continue
        call_id = own_id(f"{context.session}|{context.round.number}|first look", place)
        result = await critic.workbench.call(name, compact(arguments), None, call_id)
        if critic.workbench.failure is not None:
            raise critic.workbench.failure
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # the workbench has made a result of it, but the session is to stop
        if not result.is_error:
            found.append({"call": name, "arguments": arguments, "result": json.loads(result.to_text())} | beside)
    for key, made in context.state.calls.made.items():
        context.state.calls.made[key] = made.model_copy(update={"times": 0})  # the Critic has not made it yet
    return found


def _definitions(names: Sequence[str], logged: Mapping[str, str]) -> dict[str, str]:
    """Of these metrics, without those that the prompt defines."""
    return {name: logged[name] for name in names if name.removeprefix("evaluation_") not in IN_THE_PROMPT}

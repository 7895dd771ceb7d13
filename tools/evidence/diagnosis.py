"""``submit_diagnosis``: what goes wrong in learning, resting on evidence that was read."""

from __future__ import annotations

import json

from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Diagnosis
from learning_signal.tools.round.record import record_diagnosis


def diagnosis_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that ends the Critic's phase."""

    async def submit_diagnosis(arguments: Diagnosis) -> Answer:
        cited = {name for failure in arguments.failures for name in failure.evidence}
        unread = sorted(name for name in cited if not 1 <= int(name[1:]) <= context.state.seen)
        if unread:
            raise ToolRefused(
                f"Found evidence id {unread[0]}, which is not among the results you have read: cite the ids that "
                "query_metrics and summarize_trajectories returned in an earlier step."
            )

        return Answer(json.dumps({"accepted": True}), lambda: record_diagnosis(context, arguments))

    return {
        "submit_diagnosis": Tool(
            "submit_diagnosis",
            "End your phase: the stage of learning, what fails (each failure with the evidence ids it rests on), and "
            "advice to the Generator.",
            Diagnosis,
            submit_diagnosis,
            ends_phase=True,
        )
    }

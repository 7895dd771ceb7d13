"""``submit_diagnosis``: what goes wrong in learning, resting on evidence that was read."""

from __future__ import annotations

import json

from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.objection import weighed
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

        words = context.as_kept(arguments).model_dump(mode="json")
        claim = weighed(context, "submit_diagnosis", "diagnoses", "critic", words)
        answer = {"accepted": True} | ({"marked": [mark.problem for mark in claim.marks]} if claim.marks else {})
        return Answer(json.dumps(answer), lambda: record_diagnosis(context, arguments, claim))

    return {
        "submit_diagnosis": Tool(
            "submit_diagnosis",
            "End your phase. Numbers and names are checked against the evidence cited.",
            Diagnosis,
            submit_diagnosis,
            ends_phase=True,
        )
    }

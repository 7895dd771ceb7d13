"""``submit_diagnosis``: what goes wrong in learning, resting on evidence that was read."""

from __future__ import annotations

import json

from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.claims.keep import checked
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import Diagnosis
from learning_signal.tools.round.record import record_diagnosis

OBJECTION = "unsupported"
"""The code of the refusal of a diagnosis that the record does not support."""


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

        claim = checked(context, "diagnoses", "critic", context.as_kept(arguments).model_dump(mode="json"))
        wrong = [mark.problem for mark in claim.marks if mark.kind != "instruction"]  # a phrase may be found by mistake
        if wrong and not _objected(context):
            raise ToolRefused(_objection(wrong), code=OBJECTION, marks=len(wrong))
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


def _objection(problems: list[str]) -> str:
    found = "; ".join(problems)
    return (
        f"Found words that the record does not support: {found}. Expected numbers as the evidence that is cited has "
        "them, and names that exist: correct them, cite what has them, or leave them out. What you submit next is "
        "accepted; what is then still unsupported is marked so for everyone who reads it."
    )


def _objected(context: SessionContext) -> bool:
    """Whether a diagnosis of this round was refused for what the record does not support."""
    refused = context.ledger.find(
        "tool_calls", session_id=context.session, round=context.round.number, name="submit_diagnosis", status="refused"
    )
    results = (context.ledger.rows("SELECT body FROM bodies WHERE hash = ?", (row["result"],)) for row in refused)
    return any(f'"code": "{OBJECTION}"' in body["body"] for rows in results for body in rows)

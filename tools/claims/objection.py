"""A call whose words the record does not support is refused once; made again it is accepted, and they are marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning_signal.tools.base import ToolRefused
from learning_signal.tools.claims.keep import About, Checked, checked
from learning_signal.tools.context import SessionContext

OBJECTION = "unsupported"
"""The code of such a refusal."""


def weighed(context: SessionContext, tool: str, about: About, agent: str, words: Mapping[str, Any]) -> Checked:
    """Words of a call of ``tool``, held against the record.

    ``ToolRefused`` where the record does not support them and no call of the tool was refused for that in this round.
    An order to others is marked and no reason to refuse: a phrase may be found by mistake.
    """
    claim = checked(context, about, agent, words)
    wrong = [mark.problem for mark in claim.marks if mark.kind != "instruction"]
    if wrong and not _objected(context, tool):
        raise ToolRefused(_objection(wrong), code=OBJECTION, marks=len(wrong))
    return claim


def _objection(problems: list[str]) -> str:
    found = "; ".join(problems)
    return (
        f"Found words that the record does not support: {found}. Expected numbers as the record (of a failure: the "
        "evidence that it cites) has them, and names that exist: correct them, or leave them out. What you send next "
        "is accepted; what is then still unsupported is marked so for everyone who reads it."
    )


def _objected(context: SessionContext, tool: str) -> bool:
    """Whether a call of ``tool`` in this round was refused for what the record does not support."""
    refused = context.ledger.find(
        "tool_calls", session_id=context.session, round=context.round.number, name=tool, status="refused"
    )
    results = (context.ledger.rows("SELECT body FROM bodies WHERE hash = ?", (row["result"],)) for row in refused)
    return any(f'"code": "{OBJECTION}"' in body["body"] for rows in results for body in rows)

"""``summarize_trajectories``: what agents do in evaluation episodes of the main run, or of a branch and its control."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from learning_signal.marl.behaviour.against import against
from learning_signal.marl.behaviour.summary import BehaviourSummary, summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.marl.behaviour.words.against import against_body
from learning_signal.marl.behaviour.words.parts import Part
from learning_signal.marl.behaviour.words.rounding import rounded_body
from learning_signal.tools.base import Answer, Tool, ToolRefused, compact
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import SummarizeTrajectories
from learning_signal.tools.evidence.sources import Recorded, behaviours, play_query, recorded
from learning_signal.tools.round.record import record_summary

AGAINST = "against"
"""The part that compares a branch with the control's; all others describe one policy."""
OF_A_BRANCH = (AGAINST, "overview")
"""What is shown of a candidate's branch where no part is named."""


def behaviour_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that describe behaviour."""

    async def summarize_trajectories(arguments: SummarizeTrajectories) -> Answer:
        most = _most_tokens(context, arguments.most_tokens)
        found = recorded(context, arguments.source)
        parts = arguments.parts or (OF_A_BRANCH if found.control else ())
        await play_query(context, (*found.segments, *found.control) if AGAINST in parts else found.segments[:1])
        summary = summarize(found.first(context), context.task)
        beside = _against(context, arguments.source, found) if AGAINST in parts else {}
        body = _body(context, summary, most, [part for part in parts if part != AGAINST], beside)
        if not arguments.parts and found.control:
            body["left_out"] = {"parts": [str(part) for part in Part if part not in parts]} | body.get("left_out", {})
        answer = {
            "source": arguments.source,
            "env_steps": context.trainer.stored(found.segments[0]).end_env_steps,
            **({"seed": f"1 of {found.seeds}"} if found.seeds > 1 else {}),
            "summary": body,
        }

        def apply() -> None:
            # The Generator is shown the default; single parts are no substitute for it.
            if arguments.source == "main" and not arguments.parts:
                record_summary(context, body)
            elif arguments.source == "main" and context.round.evidence_summary is None:
                limit = context.settings.deliberation.evidence_tokens
                record_summary(context, _body(context, summary, limit))

        return Answer(compact(answer), apply)

    return {
        "summarize_trajectories": Tool(
            "summarize_trajectories",
            "What agents do in recorded episodes, by parts: features in time and with success, actions and their use.",
            SummarizeTrajectories,
            summarize_trajectories,
            evidence=True,
            patient=True,
        )
    }


def _most_tokens(context: SessionContext, asked: int | None) -> int:
    limit = context.settings.deliberation.evidence_tokens
    if asked is not None and asked > limit:
        raise ToolRefused(
            f"Found most_tokens {asked}, expected at most {limit}, the limit of this session: name the parts you "
            "want, or leave most_tokens out."
        )
    return limit if asked is None else asked


def _against(context: SessionContext, source: str, found: Recorded) -> dict[str, Any]:
    """The part that compares ``source`` with its control; ``ToolRefused`` where there is none to compare with."""
    if not found.control:
        raise ToolRefused(
            f"Found part 'against' of {source}, expected a candidate whose control's branch of the same purpose is "
            "done: leave the part out, or name another source."
        )
    compared = against(behaviours(context, found.segments), behaviours(context, found.control), context.task)
    return {AGAINST: rounded_body(against_body(compared))}


def _body(
    context: SessionContext,
    summary: BehaviourSummary,
    most: int,
    parts: Collection[str] = (),
    beside: dict[str, Any] | None = None,
) -> dict[str, Any]:
    if beside and not parts:
        return beside
    try:
        text = render(summary, most, context.count_tokens, parts, beside)
    except ValueError as error:
        raise ToolRefused(str(error)) from error
    body: dict[str, Any] = json.loads(text)
    return body

"""``summarize_trajectories``: what agents do in evaluation episodes of the main run or of a branch."""

from __future__ import annotations

import json

from learning_signal.marl.behaviour.summary import summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import SummarizeTrajectories
from learning_signal.tools.evidence.sources import finished, readable_branch
from learning_signal.tools.round.record import record_summary


def behaviour_tools(context: SessionContext) -> dict[str, Tool]:
    """The tools that describe behaviour."""

    async def summarize_trajectories(arguments: SummarizeTrajectories) -> Answer:
        limit = context.settings.deliberation.evidence_tokens
        most = limit if arguments.most_tokens is None else arguments.most_tokens
        if most > limit:
            raise ToolRefused(
                f"Found most_tokens {most}, expected at most {limit}, the limit of this session: ask for less, or "
                "leave most_tokens out."
            )
        if arguments.source == "main":
            segment, env_steps = context.head.segment, context.head.env_steps
        else:
            segment = readable_branch(context, arguments.source).segments[0]
            env_steps = finished(context, arguments.source, segment).end_env_steps
        summary = summarize(context.trainer.behaviour(segment), context.task)
        try:
            body = json.loads(render(summary, most, context.count_tokens))
        except ValueError as error:
            raise ToolRefused(str(error)) from error
        text = json.dumps({"source": arguments.source, "env_steps": env_steps, "summary": body})

        def apply() -> None:
            if arguments.source == "main":
                record_summary(context, body)

        return Answer(text, apply)

    return {
        "summarize_trajectories": Tool(
            "summarize_trajectories",
            "Compact behaviour evidence from evaluation episodes: features over episode time, around successes, by "
            "outcome and by agent, and which wait for which; action use, idleness, oscillation, roles; how features "
            "move with return; best, median and worst episode.",
            SummarizeTrajectories,
            summarize_trajectories,
            evidence=True,
        )
    }

"""``show_episode``: one recorded episode of the main run or of a branch, as a few lines of events."""

from __future__ import annotations

from learning_signal.marl.behaviour.episode import episode_of, find_episode
from learning_signal.marl.behaviour.words.episode import render_episode
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.context import SessionContext
from learning_signal.tools.contracts import ShowEpisode
from learning_signal.tools.evidence.sources import play_query, recorded


def episode_tools(context: SessionContext) -> dict[str, Tool]:
    """The tool that shows an episode."""

    async def show_episode(arguments: ShowEpisode) -> Answer:
        found = recorded(context, arguments.source)
        await play_query(context, found.segments[:1])
        record = found.first(context)
        given = arguments.episode is not None
        beside = {"source": arguments.source, "of_episodes": len(record.lengths)}
        beside |= {"seed": f"1 of {found.seeds}"} if found.seeds > 1 else {}
        beside |= {} if given else {"which": arguments.which}
        try:
            index = arguments.episode if arguments.episode is not None else find_episode(record, arguments.which)
            episode = episode_of(record, context.task, index)
            limit = context.settings.deliberation.evidence_tokens
            return Answer(render_episode(episode, limit, context.count_tokens, beside))
        except ValueError as error:
            raise ToolRefused(str(error)) from error

    return {
        "show_episode": Tool(
            "show_episode",
            "One recorded episode in a few lines: what every agent did up to each reward, and the features around it.",
            ShowEpisode,
            show_episode,
            evidence=True,
            patient=True,
        )
    }

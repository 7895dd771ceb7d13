"""What of a phase's conversation is sent to its agent: all of it, but for results that are used up.

All of it is saved. What is sent follows from that alone, so a resumed step sends the same request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core import FunctionCall
from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    UserMessage,
)
from pydantic import TypeAdapter

from learning_signal.tools.base import compact

USED_UP = ("query_metrics",)
"""Tools whose older results are left out: tables that were read, and can be read again."""
TURNS = 2
"""The results of so many last turns are sent whatever they are."""
LEFT_OUT = "read earlier, left out to save tokens"
_EVIDENCE = re.compile(r'\{"evidence":"(E[0-9]+)"')
_MESSAGES: TypeAdapter[list[LLMMessage]] = TypeAdapter(list[LLMMessage])


class History(UnboundedChatCompletionContext):
    """The conversation of a phase: ``get_messages`` gives what is sent, ``save_state`` has all of it."""

    component_provider_override = "learning_signal.agents.history.History"

    async def get_messages(self) -> list[LLMMessage]:
        """``condensed`` messages."""
        return condensed(await super().get_messages())


def condensed(messages: Sequence[LLMMessage]) -> list[LLMMessage]:
    """The messages with used-up results left out, each saying so beside its evidence id.

    Used up is a result of ``USED_UP`` that is older than the last ``TURNS`` turns and that no refusal since names.
    """
    turns = [place for place, each in enumerate(messages) if isinstance(each, FunctionExecutionResultMessage)]
    older = set(turns[:-TURNS])
    return [
        _without_used_up(message, _refusals(messages[place + 1 :]))
        if place in older and isinstance(message, FunctionExecutionResultMessage)
        else message
        for place, message in enumerate(messages)
    ]


def in_view(tool: str, turns_ago: int) -> bool:
    """Whether the next request still has a result of ``tool`` that was told so many turns ago."""
    return tool not in USED_UP or turns_ago < TURNS


def transcript(agent_state: Mapping[str, Any]) -> str:
    """A phase's conversation, from its agent's saved state, as plain text: for questions to the agent later on."""
    lines: list[str] = []
    for message in condensed(_MESSAGES.validate_python(agent_state["llm_context"]["messages"])):
        if isinstance(message, UserMessage):
            lines.append(str(message.content))
        elif isinstance(message, AssistantMessage) and isinstance(message.content, str):
            lines.append(f"YOU: {message.content}")
        elif isinstance(message, AssistantMessage):
            calls = [call for call in message.content if isinstance(call, FunctionCall)]
            lines += [f"YOU CALLED {call.name}: {call.arguments}" for call in calls]
        elif isinstance(message, FunctionExecutionResultMessage):
            lines += [f"RESULT of {result.name}: {result.content}" for result in message.content]
    return "\n".join(lines)


def _without_used_up(message: FunctionExecutionResultMessage, refusals: str) -> FunctionExecutionResultMessage:
    return message.model_copy(update={"content": [_shown(result, refusals) for result in message.content]})


def _shown(result: FunctionExecutionResult, refusals: str) -> FunctionExecutionResult:
    found = _EVIDENCE.match(result.content)
    if result.name not in USED_UP or found is None or re.search(rf"\b{found[1]}\b", refusals):
        return result
    return result.model_copy(update={"content": compact({"evidence": found[1], "left_out": LEFT_OUT})})


def _refusals(messages: Sequence[LLMMessage]) -> str:
    """The refusals among the results in ``messages``, as one text."""
    results = [each for each in messages if isinstance(each, FunctionExecutionResultMessage)]
    return "\n".join(result.content for each in results for result in each.content if result.is_error)

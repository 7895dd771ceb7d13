"""The rules of one role behind a local HTTP server, with what a test changes in their tool calls."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)

from learning_signal.agents.rules import RulesClient
from tests.support.scripted_server import Reply, Request, ScriptedServer, calls, serving, text

_STEPS_LEFT = re.compile(r"\n\[[^\n]* left\]$")
"""What models alone are told below a result."""
Calls = list[tuple[str, dict[str, Any]]]
"""Names and arguments."""
Change = Callable[[Calls, Sequence[LLMMessage]], Calls]
"""What the model calls in place of what the rules would, in this conversation."""


@asynccontextmanager
async def rules_serving(role: str, change: Change) -> AsyncIterator[ScriptedServer]:
    """A server that answers each request as the rules of ``role`` would, with its calls changed."""
    client, numbers = RulesClient(role), itertools.count(1)

    async def answer(request: Request) -> Reply:
        messages = messages_of(request.body["messages"])
        tools = [each["function"] for each in request.body.get("tools") or ()]
        result = await client.create(messages, tools=tools)
        if isinstance(result.content, str):
            return text(result.content)
        wanted = [(each.name, json.loads(each.arguments)) for each in result.content]
        made = change(wanted, messages)
        return calls([(f"call_{next(numbers)}", name, json.dumps(arguments)) for name, arguments in made])

    async with serving(answer) as server:
        yield server


def messages_of(sent: Sequence[dict[str, Any]]) -> list[LLMMessage]:
    """The conversation of a request, as autogen has it."""
    found: list[LLMMessage] = []
    names: dict[str, str] = {}
    for message in sent:
        role, content = message["role"], message.get("content")
        if role == "system":
            found.append(SystemMessage(content=content))
        elif role == "user":
            found.append(UserMessage(content=content, source=message.get("name") or "session"))
        elif role == "tool":
            results = found[-1].content if isinstance(found[-1], FunctionExecutionResultMessage) else None
            content = _STEPS_LEFT.sub("", content)
            result = FunctionExecutionResult(
                content=content,
                name=names[message["tool_call_id"]],
                call_id=message["tool_call_id"],
                is_error=content.startswith("ERROR"),
            )
            if results is None:
                found.append(FunctionExecutionResultMessage(content=[result]))
            else:
                results.append(result)
        else:
            made = [
                FunctionCall(id=each["id"], name=each["function"]["name"], arguments=each["function"]["arguments"])
                for each in message.get("tool_calls") or ()
            ]
            names |= {each.id: each.name for each in made}
            found.append(AssistantMessage(content=made or content or "", source="rules"))
    return found

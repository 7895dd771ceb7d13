"""``RulesClient``: the rules of one role as a deterministic ``ChatCompletionClient``."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal

from autogen_core import CancellationToken, Component, FunctionCall
from autogen_core.models import AssistantMessage, CreateResult, FunctionExecutionResultMessage, LLMMessage, RequestUsage
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from learning_signal.agents.call_ids import with_own_ids
from learning_signal.agents.own_client import NO_TOKENS, OwnClient
from learning_signal.agents.rules import coordinator, critic, generator, validator
from learning_signal.agents.rules.reading import Answer, Conversation, read
from learning_signal.agents.tokens import count_tokens
from learning_signal.tools.roles import Role

CONTEXT_TOKENS = 1_000_000
"""The rules read a conversation of any length; this is the figure they report."""

PARTS: dict[Role, tuple[Callable[[Conversation], Answer], Callable[[Conversation], str]]] = {
    "critic": (critic.step, critic.answer),
    "generator": (generator.step, generator.answer),
    "validator": (validator.step, validator.answer),
    "coordinator": (coordinator.step, coordinator.answer),
}
"""Per role: its next step in a phase, and its answer to a free question."""


class RulesConfig(BaseModel):
    """The configuration of a ``RulesClient``."""

    role: str


class RulesClient(OwnClient, Component[RulesConfig]):
    """A chat model made of rules: its reply is a pure function of the messages and tools given to ``create``.

    It knows nothing of any task: only what the conversation declares and reports. ``ValueError`` for an unknown role.
    """

    component_config_schema = RulesConfig
    component_provider_override = "learning_signal.agents.rules.RulesClient"
    component_type = "model"
    model = "rules"

    def __init__(self, role: str):
        if role not in PARTS:
            raise ValueError(f"Found the role {role!r}, expected one of {', '.join(PARTS)}; name one of these.")
        self.role = role
        self._usage = NO_TOKENS

    def part(self) -> tuple[Callable[[Conversation], Answer], Callable[[Conversation], str]]:
        """The role's next step in a phase, and its answer to a free question."""
        return PARTS[self.role]

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """The role's next step, or its answer to the last user message where no tools are offered."""
        step, answer = self.part()
        offered = [] if tool_choice == "none" else [_tool_name(tool) for tool in tools]
        conversation = read(messages, offered)
        reply = step(conversation) if offered else Answer(answer(conversation))
        unknown = sorted({request.name for request in reply.requests} - set(offered))
        if unknown:
            reply = Answer(f"I would call {', '.join(unknown)}, but I am only offered {', '.join(sorted(offered))}.")
        content, thought = self._content(reply)
        usage = self._count(messages, tools, reply)
        finish_reason = "stop" if isinstance(content, str) else "function_calls"
        result = CreateResult(content=content, thought=thought, usage=usage, cached=False, finish_reason=finish_reason)
        return with_own_ids(result, "\n".join([self.role, *map(_message_text, messages)]))

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The reply of ``create`` in one piece."""
        result = await self.create(messages, **options)
        if isinstance(result.content, str):
            yield result.content
        yield result

    def actual_usage(self) -> RequestUsage:
        """Estimated tokens of all calls so far."""
        return self._usage

    def total_usage(self) -> RequestUsage:
        """Estimated tokens of all calls so far."""
        return self._usage

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        """Estimated tokens of ``messages`` and ``tools``."""
        return count_tokens("\n".join([*map(_message_text, messages), *map(_tool_text, tools)]))

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        """``CONTEXT_TOKENS`` less those of ``messages`` and ``tools``."""
        return CONTEXT_TOKENS - self.count_tokens(messages, tools=tools)

    def _to_config(self) -> RulesConfig:
        return RulesConfig(role=self.role)

    @classmethod
    def _from_config(cls, config: RulesConfig) -> RulesClient:
        return cls(config.role)

    def _content(self, reply: Answer) -> tuple[str | list[FunctionCall], str | None]:
        if not reply.requests:
            return reply.thought, None
        calls = [
            FunctionCall(
                id="", name=request.name, arguments=json.dumps(request.arguments, sort_keys=True, allow_nan=False)
            )
            for request in reply.requests
        ]
        return calls, reply.thought

    def _count(self, messages: Sequence[LLMMessage], tools: Sequence[Tool | ToolSchema], reply: Answer) -> RequestUsage:
        arguments = (f"{request.name} {json.dumps(request.arguments)}" for request in reply.requests)
        usage = RequestUsage(
            prompt_tokens=self.count_tokens(messages, tools=tools),
            completion_tokens=count_tokens("\n".join([reply.thought, *arguments])),
        )
        self._usage = RequestUsage(
            prompt_tokens=self._usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens + usage.completion_tokens,
        )
        return usage


def _tool_name(tool: Tool | ToolSchema) -> str:
    return tool["name"] if isinstance(tool, Mapping) else tool.name


def _tool_text(tool: Tool | ToolSchema) -> str:
    return json.dumps(tool if isinstance(tool, Mapping) else tool.schema, sort_keys=True)


def _message_text(message: LLMMessage) -> str:
    """The text a model reads of one message."""
    if isinstance(message, FunctionExecutionResultMessage):
        return "\n".join(f"{result.call_id} {result.content}" for result in message.content)
    if isinstance(message, AssistantMessage) and not isinstance(message.content, str):
        return "\n".join(f"{call.id} {call.name} {call.arguments}" for call in message.content)
    content = message.content
    return content if isinstance(content, str) else "\n".join(part for part in content if isinstance(part, str))

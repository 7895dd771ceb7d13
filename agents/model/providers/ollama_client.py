"""autogen's protocol in front of Ollama's own SDK.

autogen's client of Ollama ignores timeouts and headers and gives parallel calls one id, so it is not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    SystemMessage,
)

from learning_signal.agents.model.call import schemas
from learning_signal.agents.model.dialect.outgoing import OUTGOING, Outgoing
from learning_signal.agents.model.providers.sdk import UNKNOWN_MODEL
from learning_signal.agents.own_client import NO_TOKENS, OwnClient


class OllamaClient(OwnClient):
    """Asks ``/api/chat`` once per call, without streaming.

    Args:
        sdk: an ``ollama.AsyncClient`` that was given to ``pinned.watch_ollama``.
        http: the HTTP client below it, which ``close`` closes.
        options: the model's options of every request, by Ollama's names.
        think: whether the model is to think, or how much; None leaves it to the model.
    """

    def __init__(self, sdk: Any, http: Any, model: str, options: Mapping[str, Any], think: bool | str | None):
        self._sdk, self._http, self._model = sdk, http, model
        self._options, self._think = dict(options), think
        self._last = self._total = NO_TOKENS

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        cancellation_token: CancellationToken | None = None,
        **options: Any,
    ) -> CreateResult:
        """The model's reply. Raises what ``wire.inspect_ollama`` and the HTTP client raise.

        Ollama gives calls no ids: here they are numbered within the reply, as the other clients' are in their servers'.
        """
        if unknown := [name for name, value in options.items() if value]:
            raise NotImplementedError(f"this client of Ollama takes no {', '.join(unknown)}")
        outgoing = OUTGOING.get() or Outgoing()
        reply = await self._sdk.chat(
            model=self._model,
            messages=[sent for message in messages for sent in _sent(message, outgoing)],
            tools=[{"type": "function", "function": schema} for schema in schemas(tools)],
            options=self._options,
            think=self._think,
        )
        message = reply.message
        calls = [
            FunctionCall(
                id=f"call {place}", name=call.function.name, arguments=json.dumps(dict(call.function.arguments))
            )
            for place, call in enumerate(message.tool_calls or ())
        ]
        self._last = RequestUsage(prompt_tokens=reply.prompt_eval_count or 0, completion_tokens=reply.eval_count or 0)
        self._total = RequestUsage(
            prompt_tokens=self._total.prompt_tokens + self._last.prompt_tokens,
            completion_tokens=self._total.completion_tokens + self._last.completion_tokens,
        )
        return CreateResult(
            finish_reason="length" if reply.done_reason == "length" else "function_calls" if calls else "stop",
            content=calls or message.content or "",
            usage=self._last,
            cached=False,
            thought=message.content if calls else None,
        )

    async def close(self) -> None:
        await self._http.aclose()

    def actual_usage(self) -> RequestUsage:
        return self._last

    def total_usage(self) -> RequestUsage:
        return self._total

    @property
    def model_info(self) -> ModelInfo:
        return UNKNOWN_MODEL


def _sent(message: LLMMessage, outgoing: Outgoing) -> list[dict[str, Any]]:
    """A message of autogen's as Ollama takes it; one for each result of a call."""
    if isinstance(message, FunctionExecutionResultMessage):
        return [{"role": "tool", "content": each.content, "tool_name": each.name} for each in message.content]
    if isinstance(message, AssistantMessage):
        return [_assistant(message, outgoing)]
    return [{"role": "system" if isinstance(message, SystemMessage) else "user", "content": message.content}]


def _assistant(message: AssistantMessage, outgoing: Outgoing) -> dict[str, Any]:
    if isinstance(message.content, str):
        calls, text, carried = [], message.content, outgoing.carried.get(message.content)
    else:
        calls, carried = message.content, outgoing.carried.get(message.content[0].id)
        text = (message.thought if carried is None else carried.text) or ""
    sent: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        made = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in calls]
        sent["tool_calls"] = [{"function": each} for each in made]
    thinking = None if carried is None else carried.fields.get("thinking")
    return sent if thinking is None or outgoing.manner.reasoning == "left out" else sent | {"thinking": thinking}

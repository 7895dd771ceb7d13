"""One neutral reply of a model, as OpenAI, Anthropic and Ollama send it, and what each refuses in a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Called:
    """A tool call in a reply."""

    name: Any
    arguments: Any
    """An object, or whatever else a model may write there."""
    id: str | None = None
    """Of the protocols that have one; None leaves it out."""


@dataclass(frozen=True)
class Said:
    """A reply."""

    text: str | None = None
    calls: tuple[Called, ...] = ()
    thinking: str | None = None
    end: Literal["whole", "cut", "refused"] = "whole"
    tokens: Any = (11, 7)
    """Tokens received and sent; None leaves them out."""
    model: str = "served"


@dataclass(frozen=True)
class Protocol:
    """How one kind of server speaks."""

    name: str
    spec: str
    """A backend spec, with ``{address}`` where the root of the server goes."""
    reply: Callable[[Said], dict[str, Any]]
    """The body of a reply."""
    error: Callable[[str, str], Any]
    """The body of an error of these words, and of this kind."""
    complaint: Callable[[Mapping[str, Any]], str | None]
    """What a strict server refuses in a request; None where it takes it."""


# OpenAI -----------------------------------------------------------------------------------------------------------


def _openai(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.calls:
        message["tool_calls"] = [_openai_call(call) for call in said.calls]
    if said.thinking is not None:
        message["reasoning_content"] = said.thinking
    if said.end == "refused":
        message["refusal"] = "I cannot help with that."
    finish = {"cut": "length", "refused": "stop", "whole": "tool_calls" if said.calls else "stop"}[said.end]
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": said.model}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    if said.tokens is not None:
        received, sent = said.tokens
        body["usage"] = {"prompt_tokens": received, "completion_tokens": sent, "total_tokens": 18}
    return body


def _openai_call(call: Called) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    made = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return made if call.id is None else {"id": call.id, **made}


def _openai_complaint(body: Mapping[str, Any]) -> str | None:
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return "a message with role 'tool' answers no tool call"
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"tool_call_ids did not have response messages: {waiting}"
        calls = message.get("tool_calls") or []
        waiting = [call["id"] for call in calls]
        if len(set(waiting)) < len(waiting):
            return "duplicate tool call ids"
        for call in calls:
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                return "arguments are no object"
    return f"tool calls without results: {waiting}" if waiting else None


# Anthropic --------------------------------------------------------------------------------------------------------


def _anthropic(said: Said) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if said.thinking is not None:
        content.append({"type": "thinking", "thinking": said.thinking, "signature": "EqQB"})
    if said.text is not None:
        content.append({"type": "text", "text": said.text})
    for place, call in enumerate(said.calls):
        identity = {} if call.id is None else {"id": call.id or f"toolu_{place}"}
        content.append({"type": "tool_use", **identity, "name": call.name, "input": _object(call.arguments)})
    reason = {"cut": "max_tokens", "refused": "refusal", "whole": "tool_use" if said.calls else "end_turn"}[said.end]
    body = {"id": "m", "type": "message", "role": "assistant", "model": said.model, "content": content}
    body |= {"stop_reason": reason, "stop_sequence": None}
    if said.tokens is not None:
        body["usage"] = {"input_tokens": said.tokens[0], "output_tokens": said.tokens[1]}
    return body


def _anthropic_complaint(body: Mapping[str, Any]) -> str | None:
    waiting: list[str] = []
    for message in body["messages"]:
        blocks = message["content"]
        blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return "text content blocks must be non-empty"
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(answered) != sorted(waiting):
            return f"tool_use ids {waiting} were found with tool_result blocks for {answered} after them"
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(waiting)) < len(waiting):
            return "tool_use ids must be unique"
        if any(block["type"] == "tool_use" and not isinstance(block["input"], dict) for block in blocks):
            return "tool_use.input: Input should be a valid dictionary"
    return f"tool_use without tool_result: {waiting}" if waiting else None


# Ollama -----------------------------------------------------------------------------------------------------------


def _ollama(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or ""}
    if said.calls:
        made = [{"name": call.name, "arguments": _object(call.arguments)} for call in said.calls]
        message["tool_calls"] = [{"function": each} for each in made]
    if said.thinking is not None:
        message["thinking"] = said.thinking
    body = {"model": said.model, "created_at": "2026-11-27T12:00:00Z", "message": message, "done": True}
    body["done_reason"] = "length" if said.end == "cut" else "stop"
    if said.tokens is not None:
        body |= {"prompt_eval_count": said.tokens[0], "eval_count": said.tokens[1]}
    return body


def _ollama_complaint(body: Mapping[str, Any]) -> str | None:
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            name = message.get("tool_name", "")  # the SDK leaves out what is empty
            if name not in waiting:
                return "a result without its call"
            waiting.remove(name)
            continue
        calls = message.get("tool_calls") or []
        if waiting:
            return f"calls without results: {waiting}"
        waiting = [call["function"]["name"] for call in calls]
        if not all(isinstance(call["function"]["arguments"], dict) for call in calls):
            return "json: cannot unmarshal string into Go struct field of type api.ToolCallFunctionArguments"
    return f"calls without results: {waiting}" if waiting else None


def _object(arguments: Any) -> Any:
    """Arguments as the object that these protocols have, where they are one."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments


PARAMETERS = "?api_key_env=FAULTY_API_KEY"
PROTOCOLS: Sequence[Protocol] = (
    Protocol(
        "openai",
        "openai-api/m@{address}/v1" + PARAMETERS,
        _openai,
        lambda words, kind: {"error": {"message": words, "type": kind, "code": kind}},
        _openai_complaint,
    ),
    Protocol(
        "anthropic",
        "anthropic/m@{address}" + PARAMETERS,
        _anthropic,
        lambda words, kind: {"type": "error", "error": {"type": kind, "message": words}},
        _anthropic_complaint,
    ),
    Protocol(
        "ollama", "ollama/m@{address}" + PARAMETERS, _ollama, lambda words, kind: {"error": words}, _ollama_complaint
    ),
)

"""A request on its way out through an SDK: in the manner of its server, with what it wants back."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from learning_signal.agents.model.dialect.carried import PARTS, REASONING, Carried
from learning_signal.agents.model.dialect.manner import Manner
from learning_signal.agents.model.dialect.tool_schemas import Form, gemini_tool

UNSIGNED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google's servers take in place of the signature of a call that another model made."""


@dataclass(frozen=True)
class Outgoing:
    """What is done to a request between autogen's client and the SDK's."""

    carried: Mapping[str, Carried] = field(default_factory=dict)
    """What goes back, by the id of the first call of its message, or by the message's text."""
    manner: Manner = Manner()


OUTGOING: ContextVar[Outgoing | None] = ContextVar("OUTGOING", default=None)
"""Of the attempt in flight, set by the lowest layer, as ``wire.NOTE`` is."""


def chat_request(request: dict[str, Any], form: Form | None = None) -> dict[str, Any]:
    """``request``, the arguments of the OpenAI SDK's ``chat.completions.create``, as it is sent: its tools in the
    ``form`` of the server, until that has refused it.
    """
    outgoing = OUTGOING.get() or Outgoing()
    taken = {"in form": form, "plain": None, "few keywords": gemini_tool}[outgoing.manner.tools]
    if taken is not None and request.get("tools"):
        request = request | {"tools": [tool | {"function": taken(tool["function"])} for tool in request["tools"]]}
    messages = [
        _assistant(message, outgoing) if message["role"] == "assistant" else message for message in request["messages"]
    ]
    return _unread(_limited(request | {"messages": messages}, outgoing.manner.limit))


def messages_request(request: dict[str, Any]) -> dict[str, Any]:
    """``request``, the arguments of Anthropic's ``messages.create``, as it is sent: thinking in front of its calls."""
    outgoing = OUTGOING.get() or Outgoing()
    messages = [_with_blocks(message, outgoing.carried) for message in request["messages"]]
    return _unread(request | {"messages": [_plain(message) for message in messages]})


def _assistant(message: Mapping[str, Any], outgoing: Outgoing) -> dict[str, Any]:
    manner, calls = outgoing.manner, message.get("tool_calls") or []
    carried = outgoing.carried.get(calls[0]["id"] if calls else message["content"])
    sent = dict(message)
    if calls:
        text = message.get("content") if carried is None else carried.text
        sent["content"] = None if manner.beside == "null" else (text or ("" if manner.beside == "text" else None))
        sent["tool_calls"] = _signed(calls, carried or Carried(), manner)
    fields = {} if carried is None else dict(carried.fields)
    if manner.signatures == "left out":
        fields.pop("extra_content", None)
    if manner.reasoning == "left out":
        fields = {name: value for name, value in fields.items() if name not in (*REASONING, *PARTS)}
    elif manner.reasoning in REASONING:
        fields.setdefault(manner.reasoning, "")
    return sent | fields


def _signed(calls: list[Any], carried: Carried, manner: Manner) -> list[dict[str, Any]]:
    if manner.signatures == "left out":
        return calls
    signed = [call | carried.calls.get(call["id"], {}) for call in calls]
    if manner.signatures == "everywhere" and not any("extra_content" in call for call in signed):
        signed[0] = signed[0] | {"extra_content": UNSIGNED}  # of parallel calls, Google's models sign the first
    return signed


def _limited(request: dict[str, Any], name: str | None) -> dict[str, Any]:
    """``request`` with its longest reply under that name."""
    if name is None:
        return request
    other = "max_tokens" if name == "max_completion_tokens" else "max_completion_tokens"
    if other in request:
        request[name] = request.pop(other)
    return request


def _unread(request: dict[str, Any]) -> dict[str, Any]:
    """``request`` with its large parts in ``extra_body``, which the SDKs send as it is: they would look for parameters
    to rename in every field of every message, which takes longer than all the rest of a turn and finds none.
    """
    large = {name: request[name] for name in ("messages", "tools") if isinstance(request.get(name), list)}
    small = {name: value for name, value in request.items() if name not in large}
    return small | {"messages": [], "extra_body": (request.get("extra_body") or {}) | large}


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without objects of the SDK."""
    content = message["content"]
    if isinstance(content, str):
        return message
    blocks = [
        each if isinstance(each, Mapping) else each.model_dump(mode="json", exclude_none=True) for each in content
    ]
    return message | {"content": blocks}


def _with_blocks(message: dict[str, Any], carried: Mapping[str, Carried]) -> dict[str, Any]:
    content = message["content"]
    if message["role"] != "assistant":
        return message
    if isinstance(content, str):
        found = carried.get(content)
        return message if found is None else message | {"content": [*found.blocks, {"type": "text", "text": content}]}
    calls = [block for block in content if _of(block, "type") == "tool_use"]
    found = carried.get(_of(calls[0], "id")) if calls else None
    if found is None:
        return message
    beside = [{"type": "text", "text": found.text}] if found.text and found.text.strip() else []
    return message | {"content": [*found.blocks, *beside, *calls]}


def _of(block: Any, name: str) -> Any:
    """A field of a block, which autogen makes as a dict or as the SDK's object."""
    return block.get(name) if isinstance(block, Mapping) else getattr(block, name, None)

"""What an OpenAI-compatible server really answered: checked before autogen reads it, noted for the ledger.

autogen's client raises AttributeError, TypeError or IndexError on a reply of the wrong shape, hides that a
reply was cut, and forgets which model answered. This looks at the raw reply first.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from learning_signal.agents.model.text import one_line


class UnreadableReply(Exception):
    """The server answered, but not with a chat completion. The text describes the answer."""


class TruncatedReply(Exception):
    """The reply was cut at the token limit."""


@dataclass
class WireNote:
    """Metadata of a reply. A field is None where the server did not send it."""

    model_served: str | None = None
    finish_reason: str | None = None
    usage: tuple[int, int] | None = None
    """Tokens received by the model and sent by it."""
    written: str | None = None
    """The text of a reply whose calls were written as text, and understood."""


MOST_TOKENS = 10**9
"""A count above this, or below 0, is discarded as implausible."""

NOTE: ContextVar[WireNote | None] = ContextVar("NOTE", default=None)
"""The note of the attempt in flight, set by the lowest layer: autogen's client, in between, does not pass it on."""


def inspect(reply: Any) -> None:
    """Note who answered, repair what can be repaired in place, and refuse what is not a chat completion.

    Repaired: content in parts, a call in the form before ``tool_calls``, arguments that are an object or null, usage
    with empty or impossible fields.

    Raises:
        UnreadableReply: no choices, an error inside a 200, HTML, a tool call without a function.
        TruncatedReply: the server says that it cut the reply.
    """
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise UnreadableReply(_describe(reply))
    message = getattr(choices[0], "message", None)
    if message is None:
        raise UnreadableReply("a choice without a message")
    _mend_usage(reply)
    note = NOTE.get()
    if note is not None:
        note.model_served = _text(getattr(reply, "model", None))
        note.finish_reason = _text(choices[0].finish_reason)
        usage = getattr(reply, "usage", None)
        note.usage = None if usage is None else (usage.prompt_tokens, usage.completion_tokens)
    if choices[0].finish_reason == "length":
        raise TruncatedReply()
    if isinstance(message.content, list):
        message.content = "".join(part.get("text", "") for part in message.content if isinstance(part, dict))
    if message.content is not None and not isinstance(message.content, str):
        raise UnreadableReply("a message whose content is no text")
    if getattr(message, "function_call", None) is not None:  # the retired form, which small servers still send
        message.tool_calls = [SimpleNamespace(id="", type="function", function=message.function_call)]
        message.function_call = None
    for call in message.tool_calls or ():
        _mend_call(call)


def _mend_usage(reply: Any) -> None:
    usage = getattr(reply, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    if usage is not None and not all(believable(count) for count in counts):
        reply.usage = None


def believable(count: Any) -> bool:
    """Whether ``count`` may be a number of tokens."""
    return isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST_TOKENS


def _mend_call(call: Any) -> None:
    function = getattr(call, "function", None)
    if function is None or not isinstance(getattr(function, "name", None), str):
        raise UnreadableReply("a tool call without a function name")
    if function.arguments is None:
        function.arguments = "{}"
    elif not isinstance(function.arguments, str):
        function.arguments = json.dumps(function.arguments)


def _describe(reply: Any) -> str:
    if isinstance(reply, str):
        return f"text that is no JSON, beginning {one_line(reply, 80)!r}"
    error = (getattr(reply, "model_extra", None) or {}).get("error")
    if error is not None:
        detail = error.get("message", error) if isinstance(error, dict) else error
        return f"an error inside a successful reply: {one_line(str(detail), 80)}"
    return "a reply without choices"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

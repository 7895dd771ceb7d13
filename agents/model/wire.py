"""What a server really answered: checked before its SDK or autogen reads it, noted for the ledger.

autogen's client raises AttributeError, TypeError or IndexError on a reply of the wrong shape, hides that a
reply was cut, and forgets which model answered. This looks at the raw reply first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from learning_signal.agents.model.dialect.carried import Carried, carried_by
from learning_signal.agents.model.dialect.error_body import read_error_body
from learning_signal.agents.model.dialect.usage import Usage, believable, usage_of, usage_of_message
from learning_signal.agents.model.text import encodable, one_line


class UnreadableReply(Exception):
    """The server answered, but not with a chat completion. The text describes the answer."""


class RefusedAnswer(Exception):
    """The model declines to answer. The text is what it says about that."""


class FaultInside(Exception):
    """An answer with status 200 that is an error: ``status_code`` and ``body`` are what it should have come with."""

    def __init__(self, status_code: int, body: Any):
        super().__init__(f"an error inside a successful reply ({status_code})")
        self.status_code, self.body = status_code, body


class RefusedRequest(Exception):
    """An answer with an error status: ``status_code``, its ``body`` as JSON or text, and the ``response`` itself."""

    def __init__(self, response: Any, body: Any):
        super().__init__(f"an error ({response.status_code})")
        self.status_code, self.body, self.response = response.status_code, body, response


class TruncatedReply(Exception):
    """The reply was cut at the token limit."""


@dataclass
class WireNote:
    """Metadata of a reply. A field is None where the server did not send it."""

    model_served: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    """Tokens received by the model and sent by it."""
    written: str | None = None
    """The text of a reply whose calls were written as text, and understood."""
    read_in: str = "text"
    """Where ``written`` stood: in the reply's ``text``, or where that was empty in its ``reasoning``."""
    carried: Carried | None = None
    """What goes back with the reply."""
    left_out: int = 0
    """Turns of the agent that were left out of the request, as its window had no room for them."""


NOTE: ContextVar[WireNote | None] = ContextVar("NOTE", default=None)
"""The note of the attempt in flight, set by the lowest layer: autogen's client, in between, does not pass it on."""


def inspect(reply: Any) -> None:
    """Note who answered, repair what can be repaired in place, and refuse what is not a chat completion.

    Repaired: content in parts, a call in the form before ``tool_calls``, arguments that are an object or null, calls
    without an id of their own, half characters, usage with empty or impossible fields.

    Raises:
        FaultInside: an error inside a 200 that names its status.
        UnreadableReply: no choices, another error inside a 200, HTML, a tool call without a function.
        RefusedAnswer: the model declines to answer.
        TruncatedReply: the server says that it cut the reply.
    """
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        _refuse_error(reply)
        raise UnreadableReply(_describe(reply))
    if choices[0].finish_reason == "error":
        _refuse_error(choices[0])
        raise UnreadableReply(_describe(choices[0]))
    message = getattr(choices[0], "message", None)
    if message is None:
        raise UnreadableReply("a choice without a message")
    _mend_usage(reply)
    note = NOTE.get()
    if note is not None:
        note.model_served = _text(getattr(reply, "model", None))
        note.finish_reason = _text(choices[0].finish_reason)
        note.usage = usage_of(getattr(reply, "usage", None))
    if choices[0].finish_reason == "length":
        raise TruncatedReply()
    content = message.content
    if isinstance(content, list):
        message.content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    if message.content is not None and not isinstance(message.content, str):
        raise UnreadableReply("a message whose content is no text")
    if message.content is not None:
        message.content = encodable(message.content)
    if not message.content and not message.tool_calls and (refusal := _text(getattr(message, "refusal", None))):
        raise RefusedAnswer(one_line(refusal, 160))
    if getattr(message, "function_call", None) is not None:  # the retired form, which small servers still send
        message.tool_calls, message.function_call = [_call_of(message.function_call)], None
    for call in message.tool_calls or ():
        _mend_call(call)
    _give_ids(message.tool_calls or ())
    if note is not None:
        note.carried = carried_by(message, content)


def inspect_anthropic(reply: Any) -> None:
    """Note who answered, keep the thinking that goes back with its calls, and mend as ``inspect`` mends others.

    Raises:
        UnreadableReply: no content, an error inside a 200, a text that is none, a tool call without a name.
        RefusedAnswer: the model declines to answer.
        TruncatedReply: the server says that it cut the reply.
    """
    blocks = getattr(reply, "content", None)
    if not isinstance(blocks, list) or not all(isinstance(getattr(each, "type", None), str) for each in blocks):
        raise UnreadableReply(_describe(reply, "a reply without content"))
    calls = [each for each in blocks if each.type == "tool_use"]
    for block in blocks:
        if block.type == "text":
            if not isinstance(block.text, str):
                raise UnreadableReply("a message whose content is no text")
            block.text = encodable(block.text)
    for call in calls:
        if not isinstance(getattr(call, "name", None), str):
            raise UnreadableReply("a tool call without a function name")
        call.name, call.input = encodable(call.name), _as_object(getattr(call, "input", None))
    _give_ids(calls)
    counted = _mend_anthropic_usage(reply)
    thinking = [each.model_dump(exclude_none=True) for each in blocks if each.type in ("thinking", "redacted_thinking")]
    note, reason = NOTE.get(), _text(getattr(reply, "stop_reason", None))
    if note is not None:
        note.model_served, note.finish_reason, note.usage = _text(getattr(reply, "model", None)), reason, counted
        beside = "".join(each.text for each in blocks if each.type == "text")
        note.carried = Carried(text=beside or None, blocks=thinking) if thinking else None
    if reason == "refusal":
        raise RefusedAnswer("stop_reason: refusal")
    if reason == "max_tokens":
        raise TruncatedReply()


def _mend_anthropic_usage(reply: Any) -> Usage | None:
    """What the server counted; where that cannot be, 0 stands in the reply, which autogen reads."""
    counted = usage_of_message(getattr(reply, "usage", None))
    if counted is None:
        from anthropic.types import Usage as OfAnthropic

        reply.usage = OfAnthropic(input_tokens=0, output_tokens=0)
    return counted


def inspect_ollama(response: Any) -> dict[str, Any]:
    """The JSON of ``response``, an HTTP response of Ollama's: noted, and mended as ``inspect`` mends others.

    Raises:
        RefusedRequest: its status is that of an error.
        UnreadableReply: no JSON, an error inside a 200, no message, a tool call without a function.
    """
    try:
        reply = json.loads(response.content)
    except (ValueError, RecursionError):
        reply = response.text
    if response.status_code >= 400:
        raise RefusedRequest(response, reply)
    if not isinstance(reply, dict):
        raise UnreadableReply(_describe(reply) if isinstance(reply, str) else "JSON that is no object")
    if reply.get("error"):
        words = read_error_body(reply).words or str(reply["error"])
        raise UnreadableReply(f"an error inside a successful reply: {one_line(words, 160)}")
    message = reply.get("message")
    if not isinstance(message, dict):
        raise UnreadableReply("a reply without a message")
    if reply.get("done") is False:
        raise UnreadableReply("a reply that is not complete")
    received, sent = reply.get("prompt_eval_count"), reply.get("eval_count")
    usage = Usage(received, sent) if believable(received) and believable(sent) else None
    if usage is None:
        reply |= {"prompt_eval_count": None, "eval_count": None}
    if (note := NOTE.get()) is not None:
        note.model_served, note.finish_reason = _text(reply.get("model")), _text(reply.get("done_reason"))
        note.usage = usage
        thinking = _text(message.get("thinking"))
        note.carried = None if thinking is None else Carried(fields={"thinking": encodable(thinking)})
    if not isinstance(message.get("content") or "", str):
        raise UnreadableReply("a message whose content is no text")
    calls = [_called(call) for call in message.get("tool_calls") or ()]
    mended = {"role": "assistant", "content": encodable(message.get("content") or ""), "tool_calls": calls or None}
    return {name: reply.get(name) for name in ("done_reason", "prompt_eval_count", "eval_count")} | {"message": mended}


def _called(call: Any) -> dict[str, Any]:
    """A call of Ollama's with its arguments as an object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise UnreadableReply("a tool call without a function name")
    return {"function": {"name": encodable(function["name"]), "arguments": _as_object(function.get("arguments"))}}


def _as_object(arguments: Any) -> dict[str, Any]:
    """Arguments as the object that they should be; what is none stands in one, and the model is told."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            pass
    if not isinstance(arguments, dict):
        arguments = {} if arguments is None else {"unreadable": arguments}
    return json.loads(encodable(json.dumps(arguments, ensure_ascii=False)))


def _give_ids(calls: Sequence[Any]) -> None:
    """An id of its own for each call that has none."""
    ids: set[str] = set()
    for place, call in enumerate(calls):
        if not isinstance(getattr(call, "id", None), str) or call.id in ids:
            call.id = f"call {place}"
        ids.add(call.id)


def _mend_usage(reply: Any) -> None:
    usage = getattr(reply, "usage", None)
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    if usage is not None and not all(believable(count) for count in counts):
        reply.usage = None


def _call_of(function: Any) -> Any:
    """A call in today's form, from the retired one."""
    from openai.types.chat import chat_completion_message_function_tool_call as today

    called = today.Function.model_construct(name=function.name, arguments=function.arguments)
    return today.ChatCompletionMessageFunctionToolCall(id="", type="function", function=called)


def _mend_call(call: Any) -> None:
    function = getattr(call, "function", None)
    if function is None or not isinstance(getattr(function, "name", None), str):
        raise UnreadableReply("a tool call without a function name")
    if function.arguments is None:
        function.arguments = "{}"
    elif not isinstance(function.arguments, str):
        function.arguments = json.dumps(function.arguments)
    function.arguments = encodable(function.arguments)


def _refuse_error(part: Any) -> None:
    """``FaultInside`` where a reply, or its choice, holds an error with a status."""
    error = (getattr(part, "model_extra", None) or {}).get("error")
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, int) and 400 <= status < 600:
        raise FaultInside(status, error)


def _describe(part: Any, otherwise: str | None = None) -> str:
    """What ``part`` is in place of a reply or of a choice, ``otherwise`` where that cannot be told."""
    if isinstance(part, str):
        return f"text that is no JSON, beginning {one_line(part, 80)!r}"
    error = (getattr(part, "model_extra", None) or {}).get("error")
    if error is not None:
        return f"an error inside a successful reply: {one_line(read_error_body(error).words or str(error), 160)}"
    if otherwise is not None:
        return otherwise
    return "a reply without choices" if not hasattr(part, "finish_reason") else "a reply that ends with an error"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

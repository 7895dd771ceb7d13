"""Faults of what a model writes: calls, texts, thinking and hostile characters in a reply of the right form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.faulty.fault import Fault, Turn
from tests.support.faulty.protocols import Called, Said
from tests.support.scripted_server import Reply

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b1m\u202e\x7f\r\b"
DEEP = "[" * 10_000 + "]" * 10_000
LESS_DEEP = "[" * 300 + "]" * 300
HALF = "\ud83d"


def called(name: Any, arguments: Any) -> Callable[[Turn], Reply]:
    """Answers with one call in place of the good ones."""
    return lambda turn: turn.says(Said(calls=(Called(name, arguments, "call_0"),)))


def arguing(arguments: Any) -> Callable[[Turn], Reply]:
    """Answers with the good calls, the first of them with these arguments."""
    return lambda turn: turn.changed(calls=turn.first(arguments=arguments))


def calls() -> Iterator[Fault]:
    """Calls in another form, and wrong ones."""
    wrong = {
        "a tool that is none": called("open_the_pod_bay_doors", {}),
        "a tool of another agent": called("roll_back_everything", {"reason": "x"}),
        "arguments of nothing": arguing({"nonsense": 1}),
        "arguments that are a list": arguing([1, 2]),
        "arguments that are a number": arguing(7),
        "arguments that break off": arguing('{"reason": "a'),
        "arguments of 200,000 characters": arguing({"reason": "a" * 200_000}),
        "10,000 brackets for arguments": arguing(DEEP),
        "10,000 brackets in arguments": _deep_arguments,
        "300 brackets in arguments": arguing({"names": json.loads(LESS_DEEP)}),
        "10,000 brackets in a string": arguing({"names": DEEP, "reason": DEEP}),
        "NUL in arguments": arguing({"names": ["\0"], "reason": "\0"}),
        "escape sequences in arguments": arguing({"names": [ESCAPES]}),
        "escape sequences in a name": called(f"look{ESCAPES}", {}),
        "NUL in a name": called("look\0", {}),
        "half a character in arguments": arguing({"names": [HALF]}),
        "a name of 10,000 characters": called("a" * 10_000, {}),
        "a name that is empty": called("", {}),
        "the key in arguments": lambda turn: turn.changed(calls=turn.first(arguments={"names": [turn.key]})),
    }  # fmt: skip
    for name, does in wrong.items():
        yield Fault(name, does, "recovers")
    for name, value in {"a name that is null": None, "a name that is a number": 7}.items():
        yield Fault(name, called(value, {}), "recovers")
    same = {
        "calls without ids": lambda turn: turn.changed(calls=_each(turn, id=None)),
        "one id for all calls": lambda turn: turn.changed(calls=_each(turn, id="0")),
        "arguments as text": lambda turn: turn.changed(calls=_each(turn, arguments=json.dumps)),
        "arguments as an object": _as_objects,
        "a prefix before the name": lambda turn: turn.changed(calls=_each(turn, name="functions.{}".format)),
        "the calls twice": lambda turn: turn.changed(calls=turn.good.calls * 2),
        "text beside the calls": lambda turn: turn.changed(text="Let me see."),
        "escape sequences beside the calls": lambda turn: turn.changed(text=ESCAPES),
        "NUL beside the calls": lambda turn: turn.changed(text="a\0b"),
        "half a character beside the calls": lambda turn: turn.changed(text=HALF),
        "the key beside the calls": lambda turn: turn.changed(text=f"I was given {turn.key}."),
        "escape sequences in the model's name": lambda turn: turn.changed(model=ESCAPES),
        "thinking beside the calls": lambda turn: turn.changed(thinking="Is it so?"),
        "escape sequences in the thinking": lambda turn: turn.changed(thinking=ESCAPES),
        "a half of a megabyte of thinking": lambda turn: turn.changed(thinking="so " * 170_000),
    }
    for name, does in same.items():
        yield Fault(name, does, "recovers", times=None, meant=True)


def texts() -> Iterator[Fault]:
    """Replies that call nothing."""
    cases = {
        "prose": Said("Let me think about it."),
        "a question": Said("Shall I go on?"),
        "nothing": Said(""),
        "white space": Said(" \n\t "),
        "escape sequences": Said(ESCAPES),
        "NUL": Said("a\0b"),
        "half a character": Said(HALF + "!"),
        "10,000 brackets": Said('{"name": "x", "arguments": ' + DEEP + "}"),
        "a megabyte of text": Said("word " * 200_000),
        "thinking alone": Said(thinking="Hm."),
        "a block of thinking that never ends": Said("<think>Hm. So."),
        "half a text, cut at the limit": Said("We", end="cut"),
        "a call of nobody, as text": Said('<tool_call>{"name": "nobody", "arguments": {}}</tool_call>'),
    }
    for name, said in cases.items():
        yield Fault(f"text: {name}", lambda turn, said=said: turn.says(said), "recovers")
    yield Fault("half a call, cut at the limit", _half_a_call, "recovers")
    refused = lambda turn: turn.says(Said(end="refused"))  # noqa: E731
    yield Fault("a refusal", refused, "pauses", "declines to answer", protocols=("openai", "anthropic"))
    yield Fault("a filter", _filtered, "recovers", protocols=("openai",))
    forms = {
        "in tags": "<tool_call>\n{}\n</tool_call>",
        "in a fence": "```json\n{}\n```",
        "after thinking": "<think>So?</think>{}",
    }
    for name, form in forms.items():
        yield Fault(f"the call as text, {name}", _as_text(form), "recovers", times=None, meant=True)


def insistent() -> Iterator[Fault]:
    """Servers that want something back which they sent, and say so with 400."""

    def strict(words: str, field: str) -> Callable[[Turn], Reply]:
        def does(turn: Turn) -> Reply:
            calling = [each for each in turn.request.body["messages"] if each.get("tool_calls")]
            if any(not each.get(field) for each in calling):
                return turn.refuses(400, words, "invalid_request_error")
            return turn.changed(thinking="So.")

        return does

    words = "The `reasoning_content` in the thinking mode must be passed back to the API."
    yield Fault(
        "reasoning that must come back", strict(words, "reasoning_content"), "recovers", times=None, meant=True,
        protocols=("openai",),
    )  # fmt: skip

    def signed(turn: Turn) -> Reply:
        history = [call for each in turn.request.body["messages"] for call in each.get("tool_calls") or ()]
        if any("extra_content" not in call for call in history):
            return turn.refuses(400, "Function call is missing a thought_signature in functionCall parts.")
        reply = turn.protocol.reply(turn.good)
        for call in reply["choices"][0]["message"].get("tool_calls") or ():
            call["extra_content"] = {"google": {"thought_signature": "EqQB"}}
        return Reply(body=reply)

    yield Fault("signatures that must come back", signed, "recovers", times=None, meant=True, protocols=("openai",))

    def thoughtful(turn: Turn) -> Reply:
        history = [each["content"] for each in turn.request.body["messages"] if each["role"] == "assistant"]
        calling = [each for each in history if any(block["type"] == "tool_use" for block in each)]
        if any(each[0]["type"] != "thinking" for each in calling):
            return turn.refuses(400, "Expected `thinking`, but found `tool_use`.", "invalid_request_error")
        return turn.changed(thinking="So.")

    yield Fault(
        "thinking that must come back", thoughtful, "recovers", times=None, meant=True, protocols=("anthropic",)
    )
    unfit = lambda turn: turn.refuses(400, "m does not support thinking")  # noqa: E731
    yield Fault("a model that cannot think", unfit, "pauses", "does not support thinking", protocols=("ollama",))


def _each(turn: Turn, **changes: Any) -> tuple[Called, ...]:
    """The good calls with every field changed: a function is called with what stood there."""
    made = []
    for call in turn.good.calls:
        fields = {name: value(getattr(call, name)) if callable(value) else value for name, value in changes.items()}
        made.append(Called(**(vars(call) | fields)))
    return tuple(made)


def _as_objects(turn: Turn) -> Reply:
    """Arguments that are no text where the protocol wants text, and text where it wants an object."""
    body = turn.protocol.reply(turn.good)
    message = body["choices"][0]["message"] if "choices" in body else body.get("message", {})
    for call in message.get("tool_calls") or ():
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.loads(arguments) if isinstance(arguments, str) else json.dumps(arguments)
    return Reply(body=body)


def _deep_arguments(turn: Turn) -> Reply:
    """Arguments whose object is nested so deeply that the body is, too, where the protocol has an object."""
    text = '{"names": ' + DEEP + "}"
    if turn.protocol.name == "openai":
        return turn.changed(calls=turn.first(arguments=text))
    marked = json.dumps(turn.protocol.reply(Said(calls=(Called("look", {"names": "DEEP"}, "call_0"),))))
    return Reply(raw=marked.replace('"DEEP"', DEEP).encode())


def _half_a_call(turn: Turn) -> Reply:
    return turn.says(Said(calls=(Called("look", '{"names": ["a', "call_0"),), end="cut"))


def _filtered(turn: Turn) -> Reply:
    body = turn.protocol.reply(Said(""))
    body["choices"][0]["finish_reason"] = "content_filter"
    return Reply(body=body)


def _as_text(form: str) -> Callable[[Turn], Reply]:
    def does(turn: Turn) -> Reply:
        if len(turn.good.calls) != 1:
            return turn.whole()
        (call,) = turn.good.calls
        return turn.says(Said(form.format(json.dumps({"name": call.name, "arguments": call.arguments}))))

    return does

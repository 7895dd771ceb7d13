"""A model call as it was sent and answered: facts, system prompt, tools, messages, reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.wording import amount
from learning_signal.viewer.events import parsed
from learning_signal.viewer.text import MISSING, clean, count, duration, joined, outcome_text, styled
from learning_signal.viewer.transcript.indented import Indented
from learning_signal.viewer.transcript.values import readable, said

SPEAKERS = {"SystemMessage": "system prompt", "UserMessage": "told", "AssistantMessage": "the agent"}
"""What the messages of a context are called; results of tools have a heading each."""


def render_turn(call: Mapping[str, Any], begun_in: int | None = None) -> Group:
    """A row of ``llm_calls`` with its bodies: all that was sent, and the reply.

    ``begun_in`` is the number of an event that is shown too and began with the same tools and system prompt.
    """
    context = call["context"]
    parts: list[RenderableType] = [facts(call)]
    if begun_in is None:
        parts += _block("tools", _tools(parsed(call["tools"])))
    else:
        parts.append(Text(f"tools and system prompt as in #{begun_in}", "dim"))
    for index, body in enumerate(context[0 if begun_in is None else 1 :], 1 if begun_in is None else 2):
        parts += _message(f"{index} of {len(context)}", parsed(body))
    return Group(*parts, *answer(call))


def render_next_turn(call: Mapping[str, Any], known: int) -> Group:
    """A call whose first ``known`` messages, like its tools, were those of the request before.

    Of the others only what the agent was told is shown: its own replies and the results stand above, in the story.
    """
    context = call["context"]
    parts: list[RenderableType] = [facts(call)]
    parts.append(Text(f"{known} messages and the tools as in the request before", "dim"))
    for index, body in enumerate(context[known:], known + 1):
        message = parsed(body)
        if not isinstance(message, Mapping) or message.get("type") == "UserMessage":
            parts += _message(f"{index} of {len(context)}", message)
    return Group(*parts, *answer(call))


def facts(call: Mapping[str, Any]) -> Text:
    """A call in one line: model, attempt, how it ended, time, tokens, price."""
    served = call["model_served"]
    model = Text.assemble((clean(call["spec"]), "bold"))
    if served and served != call["model_requested"]:
        model.append(f" (served {clean(served)})")
    finish = call["finish_reason"]
    price = "?" if call["cost_usd"] is None else amount("usd", call["cost_usd"])
    estimated = " (estimate)" if call["tokens_source"] == "estimate" else ""
    return joined(
        [
            model,
            Text("" if call["attempt"] == 1 else f"attempt {call['attempt']}"),
            outcome_text(call["status"]),
            Text(milliseconds(call["latency_ms"])),
            Text(f"{count(call['tokens_in'])} tokens in, {count(call['tokens_out'])} out{_parts(call)}{estimated}"),
            Text(f"price {price}"),
            Text(f"{len(call['context'])} messages, {_number_of_tools(call['tools'])} tools"),
            styled(f"ended by {finish}") if finish else Text(),
        ],
        " · ",
    )


def _parts(call: Mapping[str, Any]) -> str:
    """What of the tokens was cached, and what was reasoning, where the server says so."""
    named = [(call.get("tokens_cached"), "cached"), (call.get("tokens_reasoning"), "reasoning")]
    parts = [f"{count(tokens)} {name}" for tokens, name in named if tokens]
    return f" ({', '.join(parts)})" if parts else ""


def milliseconds(value: float | None) -> str:
    """A latency for a reader: ``28.6 s``, ``12 ms``."""
    if value is None:
        return MISSING
    return duration(value / 1000) if value >= 1000 else f"{value:.0f} ms"


def answer(call: Mapping[str, Any]) -> list[RenderableType]:
    """The reply of a call, or what went wrong."""
    if call["error"] is not None:
        return _block("error", styled(call["error"], "red", lines=True))
    reply = parsed(call["reply"])
    if not isinstance(reply, Mapping):
        return _block("reply", styled(call["reply"] or "none yet", lines=True))
    parts: list[RenderableType] = []
    if reply.get("left_out"):
        parts.append(Text(f"{reply['left_out']} of its oldest turns were not sent: the window was full", "yellow"))
    if reply.get("thought"):
        parts += _block("thought", styled(str(reply["thought"]), "italic", lines=True))
    if reply.get("written"):
        parts += _block("as it was written", styled(str(reply["written"]), lines=True))
    return [*parts, *_spoken("reply", reply.get("content"))]


def tool_call(name: str, arguments: str) -> list[RenderableType]:
    """A call of a tool, its arguments readable."""
    value = parsed(arguments)
    if value in ({}, None, ""):
        return [Text.assemble("calls ", (clean(name), "bold"))]
    return [Text.assemble("calls ", (clean(name), "bold"), " with"), _indented(readable(value))]


def _message(place: str, message: Any) -> list[RenderableType]:
    """One message of a context."""
    if not isinstance(message, Mapping):
        return _block(place, styled(str(message), lines=True))
    kind, content = message.get("type"), message.get("content")
    if kind == "FunctionExecutionResultMessage" and isinstance(content, list):
        parts: list[RenderableType] = []
        for result in content:
            failed = " (an error)" if result.get("is_error") else ""
            parts += _block(f"{place}, result of {result.get('name')}{failed}", said(str(result.get("content"))))
        return parts
    thought = message.get("thought")
    shown = _block(f"{place}, thought", styled(str(thought), "italic", lines=True)) if thought else []
    return shown + _spoken(f"{place}, {SPEAKERS.get(str(kind), str(kind))}", content)


def _spoken(heading: str, content: Any) -> list[RenderableType]:
    """Text or tool calls, as an agent sends them."""
    if isinstance(content, list):
        calls = [part for each in content for part in _called(each)]
        return _block(heading, Group(*calls))
    return _block(heading, said(str(content)))


def _called(call: Any) -> list[RenderableType]:
    if isinstance(call, Mapping) and "name" in call:
        return tool_call(str(call["name"]), str(call.get("arguments", "")))
    return [styled(str(call), lines=True)]


def _tools(tools: Any) -> RenderableType:
    """The tools that were offered: name, arguments, what each is for."""
    if not isinstance(tools, list) or not all(isinstance(each, Mapping) for each in tools):
        return styled(json.dumps(tools))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for tool in tools:
        parameters = tool.get("parameters")
        fields = parameters.get("properties") if isinstance(parameters, Mapping) else None
        names = ", ".join(map(str, fields)) if isinstance(fields, Mapping) else ""
        about = styled(str(tool.get("description", "")))
        table.add_row(
            styled(str(tool.get("name")), "bold"), about.append(f" ({clean(names)})", "dim") if names else about
        )
    return table


@lru_cache(maxsize=32)
def _number_of_tools(text: str | None) -> int:
    """Of a JSON text that comes back with every turn of an agent."""
    tools = parsed(text)
    return len(tools) if isinstance(tools, Sequence) and not isinstance(tools, str) else 0


def _block(heading: str, body: RenderableType) -> list[RenderableType]:
    return [Text(clean(heading), "bold dim"), _indented(body)]


def _indented(body: RenderableType) -> Indented:
    return Indented(body)

"""Reading a conversation: the brief of the current phase, the calls made in it, their results, and any question."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import AssistantMessage, FunctionExecutionResultMessage, LLMMessage, SystemMessage, UserMessage

ERROR = "ERROR"


@dataclass(frozen=True)
class Call:
    """One tool call of the current phase and what came back."""

    name: str
    arguments: dict[str, Any]
    result: dict[str, Any] | None
    """The JSON object returned; None where the tool refused, failed, or has not answered."""
    error: str | None
    """The sentence of a refusal or a failure, or other text that is not a JSON object; None where it went well."""
    refusal: dict[str, Any]
    """The machine-readable fields of a refusal, by its ``code``; empty where there are none."""

    @property
    def ok(self) -> bool:
        return self.result is not None

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON object returned; empty where there is none."""
        return self.result or {}


@dataclass(frozen=True)
class Conversation:
    """The knowledge of a role when it is asked for its next step."""

    brief: dict[str, Any]
    """The JSON object of the last task message, beside the facts of the session in the system prompt; empty where there
    is neither."""
    calls: tuple[Call, ...]
    """The calls that were made for the agent, whose results are in that message, and those since, in order."""
    question: str
    """The text of the last user message."""
    statements: int
    """Text-only answers given since the brief."""
    objects: tuple[dict[str, Any], ...]
    """Every JSON object in the whole conversation, in order: briefs, arguments and results."""
    offered: tuple[str, ...] = ()
    """The tools that may be called now."""

    def named(self, *names: str) -> list[Call]:
        """The calls of these tools, in order."""
        return [call for call in self.calls if call.name in names]


@dataclass(frozen=True)
class Request:
    """A tool call a role wants to make."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A role's next step: a sentence of thought with tool calls, or text alone where ``requests`` is empty."""

    thought: str
    requests: tuple[Request, ...] = ()


def read(messages: Sequence[LLMMessage], offered: Sequence[str] = ()) -> Conversation:
    """The conversation in ``messages``, with the names of the tools ``offered``.

    What cannot be parsed is kept as text and never raises.
    """
    results = {
        result.call_id: result.content
        for message in messages
        if isinstance(message, FunctionExecutionResultMessage)
        for result in message.content
    }
    facts: dict[str, Any] = {}
    brief: dict[str, Any] = {}
    calls: list[Call] = []
    objects: list[dict[str, Any]] = []
    question, statements = "", 0
    for message in messages:
        if isinstance(message, SystemMessage):
            facts = next((one for one in json_objects(message.content) if "task" in one), facts)
        elif isinstance(message, UserMessage):
            question = _text(message.content)
            found = list(json_objects(question))
            objects += found
            # A task message is a heading and one object; a nudge or a question holds no brief.
            briefs = [one for one in found if "round" in one]
            if briefs:
                brief, statements = briefs[-1], 0
                calls = list(_made_before(brief))
                objects += [call.answer for call in calls]
        elif isinstance(message, AssistantMessage):
            if isinstance(message.content, str):
                statements += 1
                continue
            for call in message.content:
                calls.append(_call(call, results.get(call.id)))
                objects += [calls[-1].arguments, *([calls[-1].answer] if calls[-1].ok else [])]
    return Conversation(facts | brief, tuple(calls), question, statements, tuple(objects), tuple(offered))


def _made_before(brief: dict[str, Any]) -> Iterator[Call]:
    """The calls in a brief, which code made for the agent."""
    for one in rows(brief.get("read_for_you")):
        if text(one.get("call")) is not None:
            yield Call(one["call"], mapping(one.get("arguments")), mapping(one.get("result")), None, {})


def _call(call: FunctionCall, content: str | None) -> Call:
    arguments = _parse(call.arguments)
    if content is None:
        return Call(call.name, arguments or {}, None, "no result", {})
    result = None if content.lstrip().startswith(ERROR) else _parse(content)
    if result is not None:
        return Call(call.name, arguments or {}, result, None, {})
    sentence, _, rest = content.partition("\n")
    fields = _parse(rest)
    return Call(call.name, arguments or {}, None, content if fields is None else sentence, fields or {})


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part for part in content if isinstance(part, str))


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that begin somewhere in ``text``, outermost only, left to right."""
    decoder, position = json.JSONDecoder(), 0
    while (position := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        if isinstance(value, dict):
            yield value


def number(value: Any) -> float | None:
    """``value`` as a finite float, else None (booleans are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def text(value: Any) -> str | None:
    """``value`` if it is a text with something in it, else None."""
    return value if isinstance(value, str) and value.strip() else None


def mapping(value: Any) -> dict[str, Any]:
    """``value`` if it is an object, else an empty one: parts of a brief may be missing."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, or of a table: its ``columns``, and one list of values for each of its ``rows``."""
    columns = [name for name in items(mapping(value).get("columns")) if isinstance(name, str)]
    if columns:
        return [dict(zip(columns, items(row), strict=False)) for row in items(mapping(value).get("rows"))]
    return list(map(mapping, items(value)))


def fields(value: Any, *path: str) -> Any:
    """The value at ``path`` inside nested objects, or None."""
    for key in path:
        value = mapping(value).get(key)
    return value


def is_marginal(judged: dict[str, Any], share: float) -> bool:
    """Whether a judged p is above this share of the level it was tested at, although a smaller one was possible.

    A p says how strong the evidence is only beside the smallest that so many branches can give: one that is the
    smallest is as strong as they can be, however near its level it is.
    """
    p, level = number(judged.get("p")), number(judged.get("level"))
    smallest = number(fields(judged, "smallest_p", "at_this_look"))
    if p is None or level is None or (smallest is not None and p <= smallest):
        return False
    return p > share * level


def shown(value: float | None) -> str:
    """A number for a sentence, to three significant digits; ``unknown`` for None."""
    return "unknown" if value is None else f"{value:.3g}"

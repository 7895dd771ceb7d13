"""Makes a model's reply safe to act on, and a history safe to send."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
)

from learning_signal.agents.arguments.text import read_json
from learning_signal.agents.model.wire import TruncatedReply
from learning_signal.agents.model.written_calls import known_name, read_calls

LONGEST_TEXT = 40_000
"""Characters of a reply's text that are kept."""
LONGEST_ARGUMENTS = 100_000
"""Characters of one call's arguments that are accepted."""
DEEPEST = 50
"""Levels of an object that is sent back to a server: SDKs and servers fail at some hundred, we need six."""
MOST_CALLS = 16
"""Tool calls of one reply that are carried out."""

_THINKING = re.compile(r"<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THINKING = re.compile(r"^\s*<think(?:ing)?>(.*)\Z", re.DOTALL | re.IGNORECASE)
_HEADLESS_THINKING = re.compile(r"\A(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)


class EmptyReply(Exception):
    """The model answered with neither text nor a tool call."""


class EndlessCall(Exception):
    """The model called a tool with far too long arguments. The text describes them."""


def sanitise(result: CreateResult, schemas: Sequence[Mapping[str, Any]]) -> CreateResult:
    """``result``, sanitised for the agent that has the tools with these ``schemas``.

    Reasoning in ``<think>`` blocks moves from the text to ``thought``. Calls written as text become calls where they
    are certain (`read_calls`); what stood beside them becomes a thought. Of tool calls, empty arguments become ``{}``,
    a name with a prefix such as ``functions.`` becomes the tool's, and a call just like the one before it is dropped;
    ids stay as the server gave them (``agents.call_ids`` makes those that are used). The reply says what was left out
    for its length or number. Idempotent.

    Raises:
        EmptyReply, EndlessCall, TruncatedReply: there is nothing to act on.
    """
    if result.finish_reason == "length":
        raise TruncatedReply()
    thought = _without_tags(result.thought)
    content = result.content
    if isinstance(content, str):
        text, reasoning = split_thinking(content)
        written = read_calls(text, schemas)
        if not text.strip():
            if not (reasoning and (written := read_calls(reasoning, schemas, tagged_only=True)).calls):
                raise EmptyReply()
            reasoning = None  # what is left of it stands beside the calls
        if not written.calls:
            thought = "\n".join(part for part in (thought, reasoning) if part) or None
            return result.model_copy(update={"content": _cut(text), "thought": _cut(thought)})
        content = list(written.calls)
        thought = "\n".join(part for part in (thought, reasoning, written.beside) if part) or None
    if not content:
        raise EmptyReply()
    notes: list[str] = []
    calls = _calls(content, [schema["name"] for schema in schemas], notes)
    thought = "\n".join(part for part in (_cut(thought), *notes) if part) or None
    return result.model_copy(update={"content": calls, "thought": thought})


def split_thinking(text: str) -> tuple[str, str | None]:
    """``text`` without its ``<think>`` blocks, and what stood in them (None if there were none).

    A block that is never closed is all reasoning; one that is never opened (some chat templates open it in
    the prompt) reaches from the start to its closing tag.
    """
    reasoning = [part.strip() for part in _THINKING.findall(text)]
    rest = _THINKING.sub("", text)
    for pattern in (_HEADLESS_THINKING, _OPEN_THINKING):
        if match := pattern.search(rest):
            reasoning.append(match.group(1).strip())
            rest = rest[: match.start()] + rest[match.end() :]
    return rest.strip() if reasoning else text, "\n".join(part for part in reasoning if part) or None


def repair_history(messages: Sequence[LLMMessage]) -> list[LLMMessage]:
    """``messages`` with every tool call answered once, no answer without its call, and arguments that are
    JSON.

    Servers refuse a history in which a call is unanswered (a step that was interrupted) or in which
    arguments are not a JSON object (a model that wrote broken JSON and was told so).
    """
    repaired: list[LLMMessage] = []
    waiting: list[FunctionCall] = []
    for message in messages:
        if isinstance(message, FunctionExecutionResultMessage):
            call_ids = {call.id for call in waiting}
            results = [result for result in message.content if result.call_id in call_ids]
            results += [_unanswered(call) for call in waiting if call.id not in {r.call_id for r in results}]
            if results:
                repaired.append(FunctionExecutionResultMessage(content=results))
            waiting = []
            continue
        if waiting:
            repaired.append(FunctionExecutionResultMessage(content=[_unanswered(call) for call in waiting]))
            waiting = []
        if isinstance(message, AssistantMessage) and isinstance(message.content, list):
            waiting = [
                FunctionCall(id=call.id, name=call.name, arguments=_as_object(call.arguments))
                for call in message.content
            ]
            message = message.model_copy(update={"content": waiting})
        repaired.append(message)
    if waiting:
        repaired.append(FunctionExecutionResultMessage(content=[_unanswered(call) for call in waiting]))
    return repaired


def _calls(calls: Sequence[FunctionCall], tool_names: Sequence[str], notes: list[str]) -> list[FunctionCall]:
    kept: list[FunctionCall] = []
    before = ("", "")
    for index, call in enumerate(calls):
        arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
        if arguments.strip() in ("", "null"):
            arguments = "{}"
        if len(arguments) > LONGEST_ARGUMENTS:
            raise EndlessCall(f"{len(arguments)} characters of arguments for the tool '{call.name}'")
        name = known_name(call.name, tool_names)
        if (name, arguments) == before:  # one that is not adjacent may find something else: what it asks may be done
            notes.append(f"[a repetition of the call to {name} was left out]")
            continue
        if len(kept) == MOST_CALLS:
            notes.append(f"[{len(calls) - index} tool calls were left out: at most {MOST_CALLS} per reply]")
            break
        before = name, arguments
        kept.append(FunctionCall(id=call.id if isinstance(call.id, str) else "", name=name, arguments=arguments))
    return kept


def _without_tags(thought: str | None) -> str | None:
    if thought is None:
        return None
    return re.sub(r"</?think(?:ing)?>", "", thought, flags=re.IGNORECASE).strip() or None


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    note = f"\n[cut: the first {LONGEST_TEXT} of {len(text)} characters]"
    return text[: LONGEST_TEXT - len(note)] + note


def _as_object(arguments: str) -> str:
    """The arguments as a JSON object, where they hold one in any form that is understood and can be sent."""
    try:
        value = json.loads(arguments)
        if isinstance(value, dict) and not _deeper(value, DEEPEST):
            return arguments
    except (ValueError, RecursionError):
        pass
    try:
        value = read_json(arguments)
        value = read_json(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        value = None
    sound = isinstance(value, dict) and not _deeper(value, DEEPEST)
    return json.dumps(value if sound else {"unreadable": arguments[:2000]})


def _deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested by more than that many levels."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(each, levels - 1) for each in inner)


def _unanswered(call: FunctionCall) -> FunctionExecutionResult:
    return FunctionExecutionResult(
        content="ERROR: the call was interrupted and its result is unknown.",
        name=call.name,
        call_id=call.id,
        is_error=True,
    )

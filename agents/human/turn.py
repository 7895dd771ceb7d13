"""One turn of a person who plays an agent: what a model would be sent, and what the person replies."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from autogen_core import FunctionCall
from autogen_core.models import AssistantMessage, FunctionExecutionResultMessage, LLMMessage, SystemMessage, UserMessage


@dataclass(frozen=True)
class Said:
    """One message of the conversation."""

    kind: Literal["told", "you said", "you called", "result", "refused"]
    text: str


@dataclass(frozen=True)
class Turn:
    """What a person is asked for."""

    role: str
    prompt: str
    """The system prompt."""
    said: tuple[Said, ...]
    """The conversation, oldest first."""
    new: int
    """How many of its last messages came after the person's last reply."""
    tools: tuple[Mapping[str, Any], ...]
    """The tools that may be called, with their JSON schemas; empty where words are asked for."""
    withdrawn: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set once the reply is no longer waited for."""


@dataclass(frozen=True)
class Replied:
    """A person's reply: a call, else words, else why there is none."""

    tool: str | None = None
    arguments: str = ""
    """JSON, as it was typed."""
    words: str | None = None
    left: str | None = None
    """Why the person stops here, in words: the session pauses."""
    absent: str | None = None
    """Why there is nobody who could reply, in words."""


Person = Callable[[Turn], Awaitable[Replied]]
"""Whoever takes the turns; waits as long as it takes."""


def turn_of(role: str, messages: Sequence[LLMMessage], tools: Sequence[Mapping[str, Any]]) -> Turn:
    """The turn that a request to a model asks for."""
    prompt = "\n\n".join(message.content for message in messages if isinstance(message, SystemMessage))
    said = [_said(message) for message in messages if not isinstance(message, SystemMessage)]
    replies = [place for place, each in enumerate(said) if each and each[0].kind in ("you said", "you called")]
    after = said[replies[-1] + 1 :] if replies else said
    flat = tuple(each for group in said for each in group)
    return Turn(role, prompt, flat, sum(map(len, after)), tuple(tools))


def _said(message: LLMMessage) -> list[Said]:
    if isinstance(message, UserMessage):
        return [Said("told", str(message.content))]
    if isinstance(message, AssistantMessage) and isinstance(message.content, str):
        return [Said("you said", message.content)]
    if isinstance(message, AssistantMessage):
        calls = [call for call in message.content if isinstance(call, FunctionCall)]
        return [Said("you called", f"{call.name} {call.arguments}") for call in calls]
    if isinstance(message, FunctionExecutionResultMessage):
        return [Said("refused" if each.is_error else "result", each.content) for each in message.content]
    raise TypeError(f"found a {type(message).__name__}, expected a message after the system prompt")

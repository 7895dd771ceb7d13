"""Fits a request into a context window: whole turns leave, the oldest first."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core.models import AssistantMessage, LLMMessage, UserMessage

from learning_signal.agents.model.dialect.window import text_of
from learning_signal.agents.tokens import count_tokens

REPLY = 2048
"""Tokens of a window that are kept for the reply where no limit of it is set; at most a quarter of the window."""
_NAMED = re.compile(
    r"maximum context length (?:is|of) ([0-9]{4,8})"  # OpenAI, vLLM
    r"|available context size \(([0-9]{4,8})"  # llama.cpp
    r"|> ([0-9]{4,8}) maximum"  # Anthropic
    r"|maximum number of tokens allowed \(([0-9]{4,8})"  # Gemini
    r"|context (?:window|length|size) (?:is|of) ([0-9]{4,8})",
    re.IGNORECASE,
)
"""How servers name the window that a request does not fit in."""


@dataclass(frozen=True)
class Fitted:
    """A request of about ``tokens`` tokens that lacks ``left_out`` of the agent's turns."""

    messages: Sequence[LLMMessage]
    left_out: int
    tokens: int


def named_window(words: str) -> int | None:
    """The window in tokens that a server's refusal names, or None."""
    found = _NAMED.search(words.replace(",", ""))
    return None if found is None else int(next(each for each in found.groups() if each))


def fit(
    messages: Sequence[LLMMessage], schemas: Sequence[Mapping[str, Any]], window: int, reply: int | None = None
) -> Fitted:
    """``messages`` without as many of the oldest turns as it takes to leave room for a reply of ``reply`` tokens.

    A turn is a reply with the results and nudges that follow it, so no result is left without its call. The system
    prompt, the brief and the last turn stay, whatever they take; the brief says how many turns are missing.
    """
    room = window - min(REPLY if reply is None else reply, window // 4)
    first = next((place for place, each in enumerate(messages) if isinstance(each, AssistantMessage)), len(messages))
    begins = [place for place, each in enumerate(messages) if isinstance(each, AssistantMessage)]
    sizes = [count_tokens(text_of(message)) for message in messages]
    total = sum(sizes) + count_tokens("\n".join(map(json.dumps, schemas)))
    gone = 0
    while total > room and gone < len(begins) - 1:
        total -= sum(sizes[begins[gone] : begins[gone + 1]])
        gone += 1
    if not gone:
        return Fitted(messages, 0, total)
    return Fitted([*_told(messages[:first], gone), *messages[begins[gone] :]], gone, total)


def _told(head: Sequence[LLMMessage], gone: int) -> list[LLMMessage]:
    """The beginning of a conversation, its last message with how many turns are missing after it."""
    *before, last = head
    turns = "1 turn of yours is" if gone == 1 else f"{gone} turns of yours are"
    note = f"[{turns} left out here: the context window is full.]"
    if isinstance(last, UserMessage) and isinstance(last.content, str):
        return [*before, last.model_copy(update={"content": f"{last.content}\n\n{note}"})]
    return [*head, UserMessage(content=note, source="session")]

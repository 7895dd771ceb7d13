"""Notices a server that cut the prompt: it answers 200, and counts far fewer tokens than were sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from autogen_core.models import FunctionExecutionResultMessage, LLMMessage

from learning_signal.agents.tokens import count_tokens

LEAST = 1000
"""Fewer tokens than this are no window, but another way to count (what was not cached, or a constant)."""
SHARE = 0.6
"""A count below this share of our estimate means a cut: it exceeds the true count by at most 1.4 * 1.15
(``agents.tokens.estimate_tokens``).
"""
_DENSEST = 0.4
"""Tokens per character of the densest text that is sent."""


class CutPrompt(Exception):
    """The server read ``read`` of about ``sent`` tokens."""

    def __init__(self, read: int, sent: int):
        super().__init__(f"read {read} of about {sent} tokens of the request")
        self.read, self.sent = read, sent

    @property
    def needed(self) -> int:
        """A context window in tokens that is large enough for this phase."""
        needed = 16384
        while needed < 1.5 * self.sent:
            needed *= 2
        return needed


def refuse_cut(messages: Sequence[LLMMessage], schemas: Sequence[Mapping[str, Any]], read: int) -> None:
    """``CutPrompt`` where a server that counted ``read`` tokens cannot have read the whole request."""
    texts = [*(text_of(message) for message in messages), *map(json.dumps, schemas)]
    if read < LEAST or read >= SHARE * _DENSEST * sum(map(len, texts)):
        return
    sent = count_tokens("\n".join(texts))
    if read < SHARE * sent:
        raise CutPrompt(read, sent)


def text_of(message: LLMMessage) -> str:
    """What is sent of a message, without what only the log keeps."""
    if isinstance(message, FunctionExecutionResultMessage):
        return "\n".join(result.content for result in message.content)
    if isinstance(message.content, str):
        return message.content
    return "\n".join(getattr(part, "arguments", "") for part in message.content)

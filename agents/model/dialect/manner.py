"""How requests to a server are written, and what its refusals say about that.

Every server is asked the plain way first. One that refuses a request with a sentence about its form is asked once more
in the form that the sentence wants, and so from then on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from autogen_core.models import AssistantMessage, LLMMessage

REFUSALS = (400, 422)
"""What servers answer to a request whose form they do not take."""

_REASONING = re.compile(r"\breasoning(?:_content|_details)?\b")
_MISSING = re.compile(
    r"missing|required|must be (?:passed|included|provided)|pass(?:ed)? back|not (?:found|provided)", re.I
)
_CONTENT = re.compile(r"\bcontent\b(?! (?:filter|management|policy|safety|moderation))")
_NOT_BOTH = re.compile(r"content.{0,12}tool_calls.{0,20}not both", re.I)
_STRICT = re.compile(r"\bstrict\b", re.I)
_SCHEMA = re.compile(
    r"invalid schema for function|function_?declarations|schema keyword|\btools\b.{0,60}\bparameters\b"
    r"|\b(?:exclusive(?:Min|Max)imum|anyOf|additionalProperties)\b",
    re.I,
)
_LIMITS = ("max_tokens", "max_completion_tokens")
_UNKNOWN = re.compile(r"un(?:known|supported|recognized|expected)|not (?:supported|permitted|allowed)|extra", re.I)


@dataclass(frozen=True)
class Manner:
    """How a server wants its requests."""

    reasoning: str = "returned"
    """``returned`` with the messages that it came with, ``left out``, or the name of a field that every assistant
    message must have."""
    signatures: Literal["returned", "everywhere", "left out"] = "returned"
    """The further fields of calls; ``everywhere``: a call without a signature gets Google's word for none."""
    beside: Literal["text or null", "text", "null"] = "text or null"
    """The content of a message with calls; ``text`` is empty where there is none."""
    tools: Literal["in form", "plain", "few keywords"] = "in form"
    """The schemas of the tools; ``plain``: without what is done to them for a strict server; ``few keywords``: with
    those alone that Gemini takes."""
    limit: str | None = None
    """The name of the longest reply's parameter, where it is another than the usual one."""


def wanted(manner: Manner, words: str, messages: Sequence[LLMMessage], limit: bool) -> Manner | None:
    """The manner that a server wants that refuses a request in ``manner`` with these ``words``; None if it says
    nothing of that kind.

    Args:
        messages: those of the request.
        limit: whether the request limits the length of the reply.
    """
    if "thought_signature" in words:
        return replace(manner, signatures="everywhere" if _MISSING.search(words) else "left out")
    if manner.tools == "in form" and _STRICT.search(words):
        return replace(manner, tools="plain")
    if _SCHEMA.search(words):
        return replace(manner, tools="few keywords")
    if "extra_content" in words:
        return replace(manner, signatures="left out")
    if limit and (name := _other_limit(words)):
        return replace(manner, limit=name)
    if named := _REASONING.search(words):
        field = named[0] if named[0] != "reasoning_details" else "reasoning"
        return replace(manner, reasoning=field if _MISSING.search(words) else "left out")
    with_calls = [each for each in messages if isinstance(each, AssistantMessage) and not isinstance(each.content, str)]
    if with_calls and _NOT_BOTH.search(words):
        return replace(manner, beside="null")
    if with_calls and _CONTENT.search(words):
        return replace(manner, beside="text")
    return None


def _other_limit(words: str) -> str | None:
    """The name that is advised ("'max_tokens' is not supported, use 'max_completion_tokens' instead"), or the other one
    than the name that is unknown.
    """
    named = re.findall(rf"\b({'|'.join(_LIMITS)})\b", words)
    if len(set(named)) == 2:
        return named[-1]
    return _LIMITS[1 - _LIMITS.index(named[0])] if named and _UNKNOWN.search(words) else None

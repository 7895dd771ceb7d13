"""The tokens of a reply as servers count them: sent and received, from a cache, in reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

MOST_TOKENS = 10**9
"""More tokens than this are no count."""


@dataclass(frozen=True)
class Usage:
    """A server's count. A part is None where the server says nothing of it."""

    received: int
    """Tokens of the request, those from a cache included."""
    sent: int
    """Tokens of the reply, those of reasoning included."""
    cached: int | None = None
    """Of those received, read from a cache."""
    written: int | None = None
    """Of those received, written to a cache at a price of its own (Anthropic)."""
    reasoning: int | None = None
    """Of those sent, reasoning."""


def usage_of(reported: Any) -> Usage | None:
    """What the ``usage`` of a chat completion says; None where it is missing or cannot be.

    Cached tokens stand in ``prompt_tokens_details``, or in DeepSeek's ``prompt_cache_hit_tokens``; reasoning in
    ``completion_tokens_details``. Where the total exceeds the sum (Gemini, Grok), the reasoning was not counted in.
    """
    received, sent = _count(reported, "prompt_tokens"), _count(reported, "completion_tokens")
    if received is None or sent is None:
        return None
    cached = _count(_part(reported, "prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = _count(reported, "prompt_cache_hit_tokens")
    reasoning = _count(_part(reported, "completion_tokens_details"), "reasoning_tokens")
    total = _count(reported, "total_tokens") or 0
    if total > received + sent:
        missing = total - received - sent
        sent, reasoning = sent + missing, missing if reasoning is None else reasoning
    return Usage(received, sent, _within(cached, received), None, _within(reasoning, sent))


def usage_of_message(reported: Any) -> Usage | None:
    """What the ``usage`` of one of Anthropic's messages says; its ``input_tokens`` leave out those of the cache."""
    received, sent = _count(reported, "input_tokens"), _count(reported, "output_tokens")
    if received is None or sent is None:
        return None
    cached, written = _count(reported, "cache_read_input_tokens"), _count(reported, "cache_creation_input_tokens")
    reasoning = _count(_part(reported, "output_tokens_details"), "thinking_tokens")
    return Usage(received + (cached or 0) + (written or 0), sent, cached, written, _within(reasoning, sent))


def believable(count: Any) -> TypeGuard[int]:
    """Whether ``count`` may be a number of tokens."""
    return isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MOST_TOKENS


def _part(whole: Any, name: str) -> Any:
    """A field of the SDK's object, also one that it does not know, or of a mapping."""
    if isinstance(whole, Mapping):
        return whole.get(name)
    return getattr(whole, name, None)


def _count(whole: Any, name: str) -> int | None:
    value = _part(whole, name)
    return value if believable(value) else None


def _within(part: int | None, whole: int) -> int | None:
    """A part that is more than the whole is none."""
    return part if part is not None and part <= whole else None

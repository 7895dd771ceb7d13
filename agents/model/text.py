"""Text of models and servers cut to one line, for sentences and for the titles of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autogen_core.models import CreateResult


def one_line(text: str, limit: int) -> str:
    """``text`` with every run of white space as one space, and at most ``limit`` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def encodable(text: str) -> str:
    """``text`` with U+FFFD for every half of a character (a lone surrogate), which no request can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def summary(result: CreateResult, limit: int = 100) -> str:
    """A reply in one line: its text, or the tools that it calls."""
    if isinstance(result.content, str):
        return one_line(result.content, limit)
    return "calls " + ", ".join(call.name for call in result.content)

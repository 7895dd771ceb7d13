"""Reasoning that came in a field of its own: the thought of a reply, and its answer where the reply has no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core.models import CreateResult

from learning_signal.agents.model.dialect.carried import Carried
from learning_signal.agents.model.replies import sanitise
from learning_signal.agents.model.written_calls import read_calls


@dataclass(frozen=True)
class Understood:
    """A reply that is safe to act on."""

    result: CreateResult
    carried: Carried | None
    """What goes back with it."""
    written: str | None
    """The text in which its answer was found, where that is not the reply's own."""
    read_in: str
    """Where that text stood: ``text`` or ``reasoning``."""


def understood(received: CreateResult, carried: Carried | None, schemas: Sequence[Mapping[str, Any]]) -> Understood:
    """``received``, sanitised for the agent that has the tools with these ``schemas``, with its reasoning as thought.

    Some servers put the whole answer into the reasoning's field (vLLM#17349). It is read there where it is certain:
    what follows ``</think>``, a call, or any text where there are no tools to call.

    Raises:
        EmptyReply, TruncatedReply, UnreadableReply: there is nothing to act on.
    """
    reasoning = None if carried is None else carried.reasoning
    if reasoning is None:
        return _told(received, sanitise(received, schemas), carried, None)
    answer = received.content
    if isinstance(answer, str) and not answer.strip():
        answer, reasoning = _answer_in(reasoning, schemas)
    # autogen repeats the reasoning as the thought of a text, and not that of calls
    thought = None if isinstance(answer, str) else received.thought
    result = sanitise(received.model_copy(update={"content": answer, "thought": thought}), schemas)
    joined = "\n".join(part for part in (reasoning, result.thought) if part) or None
    return _told(received, result, carried, sanitise(result.model_copy(update={"thought": joined}), schemas))


def _told(
    received: CreateResult, result: CreateResult, carried: Carried | None, complete: CreateResult | None
) -> Understood:
    """``result`` with its reasoning is ``complete``; without, its thought is what the model wrote beside its calls."""
    complete = complete or result
    if carried is not None and not carried.blocks and not isinstance(result.content, str):
        carried = carried.model_copy(update={"text": result.thought})
    written, read_in = None, "text"
    if isinstance(received.content, str) and not received.content.strip() and carried is not None and carried.reasoning:
        written, read_in = carried.reasoning, "reasoning"
    elif isinstance(received.content, str) and not isinstance(result.content, str):
        written = received.content
    return Understood(complete, carried, written, read_in)


def _answer_in(reasoning: str, schemas: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """(answer, what is left of the reasoning); the answer is empty where none is certain."""
    before, tag, after = reasoning.rpartition("</think>")
    if tag and after.strip():
        return after, before
    if not schemas or read_calls(reasoning, schemas, tagged_only=not reasoning.startswith("{")).calls:
        return reasoning, ""
    return "", reasoning

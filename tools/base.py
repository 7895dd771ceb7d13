"""What a tool is: a name, typed arguments, and a function whose answer the model reads."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


def rounded(value: float | None) -> float | None:
    """A number as the agents are shown it: four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def compact(value: Any) -> str:
    """``value`` as JSON text without spaces, as agents are sent it: spaces are tokens."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class ToolRefused(Exception):
    """The tool refuses the call; one sentence says what was found, what was expected and what to do.

    ``fields`` repeat it for programs, as JSON data that begins with a ``code``; empty if the sentence is all there is.
    Programs should read the fields, because the wording may change.
    """

    apply: Callable[[], None] | None = None
    """What the refusal changes, as in `Answer`: that something has now been said, for one."""

    def __init__(self, sentence: str, **fields: Any) -> None:
        super().__init__(sentence)
        self.fields = fields


class CannotGoOn(Exception):
    """The machine or the program, not the agent, is at fault: the session pauses with this one sentence."""


@dataclass(frozen=True)
class Answer:
    """The result of a call: ``text`` for the model, and ``apply`` for what it changes.

    ``apply`` writes to the ledger and the session's state. It runs inside the transaction that records the call as
    done, so a call is atomic, and a resumed session never repeats a finished one.
    """

    text: str
    apply: Callable[[], None] | None = None


@dataclass(frozen=True)
class Tool:
    """One ability of an agent.

    ``arguments`` forbids extra fields. ``ends_phase`` marks a submission that ends its phase. ``evidence`` marks
    results that get an id (E1, E2 ...), which a diagnosis may cite: their text is a JSON object, and the id is put in
    front of it. A ``patient`` tool waits for training, a model or a person, and has no timeout.
    """

    name: str
    description: str
    arguments: type[BaseModel]
    call: Callable[..., Awaitable[Answer]]
    ends_phase: bool = False
    evidence: bool = False
    patient: bool = False

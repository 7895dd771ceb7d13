"""A second backend that is asked what an agent was asked, with the same messages and tools.

Its answers are compared and written down, and nothing else: no tool of it is run, no fault of it ends anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autogen_core.models import CreateResult

from learning_signal.agents.model.call import Call, Caller, request_hash
from learning_signal.agents.model.errors import OF_THE_MODEL, BackendError
from learning_signal.agents.model.stack.layers import Layer
from learning_signal.agents.model.text import one_line
from learning_signal.tools.base import CannotGoOn

LONGEST_TITLE = 160
"""Characters of the line about a turn."""
MOST_FAILURES = 3
"""Answers in a row that a server fails to give, after which it is not asked any more: each may take its deadline."""


class Turn:
    """What the agent answered last, for the title of what its shadow answers then."""

    def __init__(self, role: str) -> None:
        self._role = role
        self.answer: CreateResult | None = None

    def title(self, shadow: CreateResult) -> str:
        """How the shadow's answer compares with the agent's, in one line."""
        return one_line(agreement(self._role, self.answer, shadow), LONGEST_TITLE)


class Shadow:
    """Asks the shadow after the agent's own backend, and answers with what the latter said."""

    def __init__(self, below: Layer, beside: Layer, caller: Caller, turn: Turn) -> None:
        """``beside`` are the layers of the shadow, ``caller`` is who it is; its recorder has its titles of ``turn``."""
        self._below, self._beside, self._caller, self._turn = below, beside, caller, turn
        self._failures = 0

    async def answer(self, call: Call) -> CreateResult:
        """The reply of the layer below, whatever the shadow does. Raises what that layer raises."""
        result = self._turn.answer = await self._below.answer(call)
        if self._failures < MOST_FAILURES:
            await self._ask(call)
        return result

    async def _ask(self, call: Call) -> None:
        caller = self._caller
        request = request_hash(caller.spec, caller.name, caller.context, call.messages, call.tools)
        try:
            await self._beside.answer(replace(call, request=request))
        except BackendError as error:
            self._failures = 0 if error.kind in OF_THE_MODEL else self._failures + 1
        except CannotGoOn:  # the budget does not cover it; what is left is for the agents
            self._failures = MOST_FAILURES
        else:
            self._failures = 0


def agreement(role: str, own: CreateResult | None, shadow: CreateResult) -> str:
    """One line that begins with ``agrees`` or ``differs``: the same tools with the same arguments, or what differs."""
    mine, theirs = _calls(own), _calls(shadow)
    if mine == theirs:
        return f"agrees: {_names(theirs)}"
    if [name for name, _ in mine] == [name for name, _ in theirs]:
        return f"differs: {_names(theirs)} with other arguments"
    return f"differs: {_names(theirs)}, where the {role} made {_names(mine)}"


def _calls(reply: CreateResult | None) -> list[tuple[str, Any]]:
    """Name and arguments of every call, in order."""
    if reply is None or isinstance(reply.content, str):
        return []
    return [(call.name, _read(call.arguments)) for call in reply.content]


def _read(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _names(calls: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(name for name, _ in calls) or "no call"

"""``HumanClient``: autogen's client protocol in front of a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import CreateResult, LLMMessage

from learning_signal.agents.human.absent import Absent
from learning_signal.agents.human.turn import Person, turn_of
from learning_signal.agents.own_client import NO_TOKENS, OwnClient
from learning_signal.tools.base import CannotGoOn


class HumanClient(OwnClient):
    """Asks ``person`` for the reply of ``role``; None where this program has nobody to ask."""

    def __init__(self, role: str, person: Person | None) -> None:
        self._role, self._person = role, person

    async def create(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = (), **options: Any
    ) -> CreateResult:
        """The person's call, or words.

        Raises ``CannotGoOn`` where the person stops here, or no session asks, and ``Absent`` where there is nobody.
        """
        if self._person is None:
            raise CannotGoOn(f"There is no person here who could play the {self._role}: run a session.")
        schemas = [tool if isinstance(tool, dict) else dict(tool.schema) for tool in tools]
        replied = await self._person(turn_of(self._role, messages, schemas))
        if replied.tool is not None:
            call = FunctionCall(id="", name=replied.tool, arguments=replied.arguments)
            return CreateResult(content=[call], usage=NO_TOKENS, cached=False, finish_reason="function_calls")
        if replied.words is None:
            raise Absent(
                f"Nobody can play the {self._role}: {replied.absent}; resume at a terminal, or with another backend "
                f"(--agent {self._role}=rules)."
            )
        return CreateResult(content=replied.words, usage=NO_TOKENS, cached=False, finish_reason="stop")

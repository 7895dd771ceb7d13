"""``HumanClient``: autogen's client protocol in front of a person."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelFamily, ModelInfo, RequestUsage

from learning_signal.agents.human.turn import Person, turn_of
from learning_signal.tools.base import CannotGoOn

NOTHING = RequestUsage(prompt_tokens=0, completion_tokens=0)
"""A person uses no tokens."""


class HumanClient(ChatCompletionClient):
    """Asks ``person`` for the reply of ``role``; None where this program has nobody to ask."""

    def __init__(self, role: str, person: Person | None) -> None:
        self._role, self._person = role, person

    async def create(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = (), **options: Any
    ) -> CreateResult:
        """The person's call, or words.

        Raises ``CannotGoOn`` where there is nobody, or the person stops here.
        """
        if self._person is None:
            raise CannotGoOn(f"There is no person here who could play the {self._role}: run a session.")
        schemas = [tool if isinstance(tool, dict) else dict(tool.schema) for tool in tools]
        replied = await self._person(turn_of(self._role, messages, schemas))
        if replied.tool is not None:
            call = FunctionCall(id="", name=replied.tool, arguments=replied.arguments)
            return CreateResult(content=[call], usage=NOTHING, cached=False, finish_reason="function_calls")
        if replied.words is None:
            raise CannotGoOn(
                f"Nobody can play the {self._role}: {replied.absent}; resume at a terminal, or with another backend "
                f"(--agent {self._role}=rules)."
            )
        return CreateResult(content=replied.words, usage=NOTHING, cached=False, finish_reason="stop")

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The reply of ``create`` in one piece."""
        yield await self.create(messages, **options)

    async def close(self) -> None:
        """Nothing is held open."""

    def actual_usage(self) -> RequestUsage:
        """Nothing."""
        return NOTHING

    def total_usage(self) -> RequestUsage:
        """Nothing."""
        return NOTHING

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        """A person reads no tokens."""
        return 0

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        raise NotImplementedError("a person has no context window")

    @property
    def capabilities(self) -> ModelInfo:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """Function calls and text."""
        return ModelInfo(
            vision=False,
            function_calling=True,
            json_output=False,
            family=ModelFamily.UNKNOWN,
            structured_output=False,
            multiple_system_messages=True,
        )

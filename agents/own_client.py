"""What this project's own clients of autogen's protocol have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelFamily, ModelInfo, RequestUsage

NO_TOKENS = RequestUsage(prompt_tokens=0, completion_tokens=0)
TEXT_AND_CALLS = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=False,
    family=ModelFamily.UNKNOWN,
    structured_output=False,
    multiple_system_messages=True,
)
"""The abilities of a client that runs no model: it takes whatever messages there are."""


class OwnClient(ChatCompletionClient):
    """A client that gives a reply as a whole; ``create`` is its own. It holds nothing open and uses no tokens."""

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The whole reply as one chunk: streamed replies lose usage and tool calls on some servers."""
        yield await self.create(messages, **options)

    async def close(self) -> None:
        """Nothing is held open."""

    def actual_usage(self) -> RequestUsage:
        return NO_TOKENS

    def total_usage(self) -> RequestUsage:
        return NO_TOKENS

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        raise NotImplementedError("the vocabulary of an arbitrary model is not known")

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        raise NotImplementedError("the context window of an arbitrary model is not known")

    @property
    def capabilities(self) -> ModelInfo:
        """The same as ``model_info`` (the older name)."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return TEXT_AND_CALLS

"""What autogen is told of a model where there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelInfo, RequestUsage

from learning_signal.agents.model.providers.sdk import UNKNOWN_MODEL

_NONE = RequestUsage(prompt_tokens=0, completion_tokens=0)


class NoModel(ChatCompletionClient):
    """The client of no model: it has abilities, and answers nothing."""

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        raise RuntimeError("there is no model to be asked")

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        raise RuntimeError("there is no model to be asked")
        yield  # what makes it a generator

    async def close(self) -> None:
        """Nothing is held open."""

    def actual_usage(self) -> RequestUsage:
        return _NONE

    def total_usage(self) -> RequestUsage:
        return _NONE

    def count_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        return 0

    def remaining_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        return 0

    @property
    def capabilities(self) -> ModelInfo:
        return UNKNOWN_MODEL

    @property
    def model_info(self) -> ModelInfo:
        return UNKNOWN_MODEL

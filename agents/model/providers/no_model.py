"""What autogen is told of a model where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autogen_core.models import CreateResult, LLMMessage

from learning_signal.agents.own_client import OwnClient


class NoModel(OwnClient):
    """The client of no model: it has abilities, and answers nothing."""

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        raise RuntimeError("there is no model to be asked")

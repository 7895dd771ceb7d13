"""What a server sent with a reply and may want back: signatures of its calls, and its reasoning.

autogen's messages have no room for either. They are recorded with the reply (``carried`` in the body of
``llm_calls.reply``), so that a resume has them, and go back only to the model that they came from.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

REASONING = ("reasoning_content", "reasoning")
"""Fields in which servers send reasoning as text (DeepSeek and llama.cpp; vLLM, OpenRouter and Ollama)."""
FIELDS = (*REASONING, "reasoning_details", "extra_content")
"""Fields of a message that go back with it."""
NOT_RETURNED = ("index",)
"""Fields of a call that are no state of the server's."""


class Carried(BaseModel):
    """What goes back with one assistant message."""

    model_config = ConfigDict(frozen=True)

    text: str | None = None
    """The text beside the calls, without the reasoning."""
    fields: dict[str, Any] = {}
    """Fields of the message."""
    calls: dict[str, dict[str, Any]] = {}
    """Further fields of each call, by its id."""
    blocks: list[dict[str, Any]] = []
    """Anthropic's thinking, signed."""

    @property
    def reasoning(self) -> str | None:
        """The reasoning as text."""
        for name in REASONING:
            if isinstance(text := self.fields.get(name), str) and text.strip():
                return text.strip()
        details = self.fields.get("reasoning_details")
        parts = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
        texts = [text for each in parts if isinstance(text := each.get("text", each.get("summary")), str)]
        return "\n".join(texts).strip() or None


def carried_by(message: Any) -> Carried | None:
    """What goes back with ``message``, an OpenAI SDK's message whose calls have distinct ids; None if nothing does."""
    sent = getattr(message, "model_extra", None) or {}
    fields = {name: sent[name] for name in FIELDS if sent.get(name) is not None}
    calls = {}
    for call in message.tool_calls or ():
        further = getattr(call, "model_extra", None) or {}
        if kept := {name: value for name, value in further.items() if name not in NOT_RETURNED and value is not None}:
            calls[call.id] = kept
    return Carried(fields=fields, calls=calls) if fields or calls else None

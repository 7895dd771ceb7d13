"""What a server sent with a reply and may want back: signatures of its calls, and its reasoning.

autogen's messages have no room for either. They are recorded with the reply (``carried`` in the body of
``llm_calls.reply``), so that a resume has them, and go back only to the model that they came from.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields in which servers send reasoning as text (DeepSeek and llama.cpp; vLLM and OpenRouter; Ollama)."""
PARTS = ("reasoning_details", "content")
"""Fields in which they send it in parts (OpenRouter; Mistral, whose content holds the text too)."""
FIELDS = (*REASONING, "reasoning_details", "extra_content")
"""Further fields of a message that go back with it."""
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
        texts = [_text(part) for name in PARTS for part in _parts(self.fields.get(name))]
        return "\n".join(filter(None, texts)).strip() or None


def carried_by(message: Any, content: Any = None) -> Carried | None:
    """What goes back with ``message``, an OpenAI SDK's message whose calls have distinct ids; None if nothing does.

    ``content`` is the message's own: Mistral's models send their thinking as a part of it.
    """
    sent = getattr(message, "model_extra", None) or {}
    fields = {name: sent[name] for name in FIELDS if sent.get(name) is not None}
    if any(part.get("type") == "thinking" for part in _parts(content)):
        fields["content"] = content
    calls = {}
    for call in message.tool_calls or ():
        further = getattr(call, "model_extra", None) or {}
        if kept := {name: value for name, value in further.items() if name not in NOT_RETURNED and value is not None}:
            calls[call.id] = kept
    return Carried(fields=fields, calls=calls) if fields or calls else None


def _parts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(part: dict[str, Any]) -> str:
    """The reasoning in a part of ``reasoning_details`` or of a content."""
    if part.get("type") == "text":
        return ""
    if part.get("type") == "thinking":
        return "".join(str(each.get("text", "")) for each in _parts(part.get("thinking")))
    text = part.get("text", part.get("summary"))
    return text if isinstance(text, str) else ""

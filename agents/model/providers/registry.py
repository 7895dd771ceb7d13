"""Every provider, by name. A new one is a file beside this, and a line here."""

from __future__ import annotations

from learning_signal.agents.model.dialect.tool_schemas import gemini_tool
from learning_signal.agents.model.providers.anthropic import ANTHROPIC
from learning_signal.agents.model.providers.embedded import RANDOM, RULES
from learning_signal.agents.model.providers.entry import ProviderEntry
from learning_signal.agents.model.providers.human import HUMAN
from learning_signal.agents.model.providers.ollama import OLLAMA
from learning_signal.agents.model.providers.openai_compatible import OPENAI, SERVER, vendor
from learning_signal.agents.model.providers.replay import REPLAY
from learning_signal.agents.model.providers.spec import BackendSpec

_ENTRIES = (
    RULES,
    RANDOM,
    HUMAN,
    OPENAI,
    SERVER,
    OLLAMA,
    ANTHROPIC,
    vendor(
        "gemini",
        "GEMINI_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "gemini-2.5-flash",
        gemini_tool,
    ),
    vendor("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1", "deepseek-chat"),
    vendor("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1", "mistral-medium-latest"),
    vendor("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", "qwen/qwen3-32b"),
    vendor("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b"),
    vendor("together", "TOGETHER_API_KEY", "https://api.together.xyz/v1", "openai/gpt-oss-120b"),
    vendor("xai", "XAI_API_KEY", "https://api.x.ai/v1", "grok-4"),
    REPLAY,
)
PROVIDERS: dict[str, ProviderEntry] = {entry.name: entry for entry in _ENTRIES}
EMBEDDED = tuple(entry.name for entry in _ENTRIES if entry.embedded)
"""Backends without any model behind them."""


def entry_of(spec: BackendSpec) -> ProviderEntry:
    """The entry of the provider of ``spec``."""
    return PROVIDERS[spec.provider]

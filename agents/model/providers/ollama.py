"""Ollama, by its own protocol: its OpenAI-compatible endpoint takes no size of the context, and cuts what is larger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning_signal.agents.model.pinned import watch_ollama
from learning_signal.agents.model.providers.address import without_version
from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.sdk import http_client, missing, set_parameters
from learning_signal.agents.model.providers.spec import ALL_PARAMETERS, BackendSpec

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient

CONTEXT = 16384
"""Tokens of the context where the spec names none: a phase takes 5,000 to 10,000, and its replies come on top."""
_OPTIONS = {"temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_tokens": "num_predict"}
"""Our names of parameters, and Ollama's."""
_LEVELS = ("low", "medium", "high")


def _client(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    try:
        import httpx
        import ollama
    except ImportError:
        raise missing(spec, "ollama") from None
    from learning_signal.agents.model.providers.ollama_client import OllamaClient
    from learning_signal.agents.model.wire import inspect_ollama

    assert wiring.address is not None, "the provider has one"
    # Without the environment: the SDK would take OLLAMA_API_KEY for a server of any address, and a proxy to this one.
    sdk = ollama.AsyncClient(host=without_version(wiring.address), trust_env=False)
    http = http_client(httpx.AsyncClient, wiring.address)
    http.timeout = wiring.timeout
    if wiring.key is not None:
        http.headers["authorization"] = f"Bearer {wiring.key}"
    watch_ollama(sdk, http, inspect_ollama)
    options = {_OPTIONS[name]: value for name, value in set_parameters(spec, tuple(_OPTIONS)).items()}
    options["num_ctx"] = spec.parameters.context or CONTEXT
    return OllamaClient(sdk, http, spec.model, options, _think(spec.parameters.reasoning_effort))


def _think(effort: str | None) -> bool | str | None:
    """What ``reasoning_effort`` is to Ollama: a level, or whether to think; None leaves it to the model."""
    if effort is None or effort in _LEVELS:
        return effort
    return effort != "none"


OLLAMA = ProviderEntry(
    name="ollama",
    needs="the extra 'ollama' and a running Ollama",
    example="ollama/qwen3:8b",
    build=_client,
    extra="ollama",
    packages=("ollama",),
    address="http://localhost:11434",
    context=CONTEXT,
    parameters=ALL_PARAMETERS - {"api_version"},
    tool_choice=False,
)

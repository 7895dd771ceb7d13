"""Anthropic, by its own protocol."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from learning_signal.agents.model.pinned import forget_environment, watch_anthropic
from learning_signal.agents.model.providers.address import without_version
from learning_signal.agents.model.providers.entry import ProviderEntry, Wiring
from learning_signal.agents.model.providers.sdk import http_client, hush_autogen, missing, model_info, set_parameters
from learning_signal.agents.model.providers.spec import ALL_PARAMETERS, BackendSpec, SpecError

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient


def _client(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
    try:
        version = importlib.metadata.version("anthropic")
        import anthropic
        from autogen_ext.models.anthropic import AnthropicChatCompletionClient
    except ImportError:  # PackageNotFoundError is one
        raise missing(spec, "anthropic") from None
    if int(version.partition(".")[0]) >= 1:
        raise SpecError(
            f"The backend '{spec.text}' found anthropic {version}, which autogen cannot use; expected 0.64 "
            f"or newer but below 1; run pip install 'anthropic>=0.64,<1'."
        )
    from learning_signal.agents.model.dialect.outgoing import messages_request
    from learning_signal.agents.model.wire import inspect_anthropic

    assert wiring.key is not None, "read_key refuses this provider without a key"
    options = set_parameters(spec, ("temperature", "top_p", "max_tokens"))
    # Among the options, because autogen's types do not name it: it is handed on to the SDK.
    options["http_client"] = http_client(anthropic.DefaultAsyncHttpxClient, wiring.address)
    assert wiring.address is not None, "the provider has one"
    hush_autogen()
    client = AnthropicChatCompletionClient(
        model=spec.model,
        api_key=wiring.key,
        base_url=without_version(wiring.address),
        model_info=model_info("anthropic", spec.model),
        max_retries=0,
        timeout=wiring.timeout,
        **options,
    )
    if spec.base_url is not None:
        forget_environment(client)
    watch_anthropic(client, messages_request, inspect_anthropic)
    return client


ANTHROPIC = ProviderEntry(
    name="anthropic",
    needs="the extra 'anthropic' and ANTHROPIC_API_KEY",
    example="anthropic/claude-sonnet-4-0",
    build=_client,
    extra="anthropic",
    packages=("anthropic", "autogen_ext"),
    key="ANTHROPIC_API_KEY",
    key_needed=True,
    address="https://api.anthropic.com",
    address_variable="ANTHROPIC_BASE_URL",
    parameters=ALL_PARAMETERS - {"seed", "reasoning_effort", "api_version"},
)

"""Turns a backend spec into the provider's own chat client, and lists the backends there are."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from learning_signal.agents.model.keys import key_variable, read_key
from learning_signal.agents.model.pinned import known_model, watch_anthropic, watch_openai
from learning_signal.agents.model.specs import (
    EXAMPLES,
    PROVIDERS,
    BackendSpec,
    Provider,
    SpecError,
    parse_spec,
    refuse_role,
)
from learning_signal.ledger.wording import command

if TYPE_CHECKING:  # autogen takes half a second to import: a spec error or the table must not wait for it
    from autogen_core.models import ChatCompletionClient, ModelInfo

OPENAI_ADDRESS = "https://api.openai.com/v1"
OLLAMA_ADDRESS = "http://localhost:11434/v1"
NO_KEY = "no-key"
"""Sent to servers that ask for no key, because the SDK insists on one."""

UNKNOWN_MODEL: ModelInfo = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "structured_output": False,
    "family": "unknown",
    "multiple_system_messages": False,
}
"""The capabilities assumed of a model that autogen does not know: text and tool calls."""


@dataclass(frozen=True)
class BackendRow:
    """One line of ``backends``."""

    provider: str
    needs: str
    installed: bool
    key: str
    """``set``, ``not set`` or ``not needed``; never the key."""
    example: str


def build_client(
    spec: BackendSpec, role: str, *, environment: Mapping[str, str] = os.environ, timeout: float = 120.0
) -> ChatCompletionClient:
    """The provider's own client for ``spec``, without the layers of ``stack`` and with its own retries off.

    Args:
        timeout: seconds the SDK waits for each read.

    Raises:
        SpecError: the key, a package or the provider is missing.
    """
    key = read_key(spec, environment)
    if spec.provider == "rules":
        from learning_signal.agents.rules import RulesClient

        return RulesClient(role)
    if spec.provider == "random":
        from learning_signal.agents.rules import RandomClient

        refuse_role(spec, role)
        return RandomClient(role, spec.parameters.seed or 0)
    if spec.provider == "replay":
        raise SpecError(
            f"The backend '{spec.text}' is not available in this version; choose 'rules' or a model "
            f"({command('backends')} lists them)."
        )
    if spec.provider == "anthropic":
        assert key is not None, "read_key refuses this provider without a key"
        return _anthropic_client(spec, key, timeout)
    return _openai_client(spec, key, timeout, environment)


def backend_table(environment: Mapping[str, str] = os.environ) -> list[BackendRow]:
    """Every provider: what it needs, whether that is there, and how a spec for it looks."""
    needs = {
        "rules": "nothing: embedded and deterministic, no LLM",
        "random": "nothing: draws the generator's proposals at random; a control, no LLM",
        "openai": "the extra 'openai' and OPENAI_API_KEY",
        "openai-api": "the extra 'openai' and any OpenAI-compatible server (a key where it asks for one)",
        "ollama": "the extra 'openai' and a running Ollama (its OpenAI-compatible endpoint)",
        "anthropic": "the extra 'anthropic' and ANTHROPIC_API_KEY",
        "replay": "not available in this version",
    }
    return [_row(provider, needs[provider], environment) for provider in PROVIDERS]


def _openai_client(
    spec: BackendSpec, key: str | None, timeout: float, environment: Mapping[str, str]
) -> ChatCompletionClient:
    """OpenAI and whatever speaks its protocol.

    Ollama is reached the same way: autogen's native Ollama client ignores timeouts and headers and gives
    parallel tool calls one id.
    """
    try:
        import openai
        from autogen_ext.models.openai import OpenAIChatCompletionClient
    except ImportError:
        raise _missing(spec, "openai") from None

    from learning_signal.agents.model.dialect.outgoing import chat_request
    from learning_signal.agents.model.wire import inspect

    official = spec.provider == "openai" and spec.base_url is None and not environment.get("OPENAI_BASE_URL")
    address = {"openai": environment.get("OPENAI_BASE_URL") or OPENAI_ADDRESS, "ollama": OLLAMA_ADDRESS}
    options = _set_parameters(spec, ("temperature", "top_p", "seed", "reasoning_effort"))
    if spec.parameters.max_tokens is not None:
        # OpenAI's newer models refuse the old name; other servers know only the old one
        options["max_completion_tokens" if official else "max_tokens"] = spec.parameters.max_tokens
    # Among the options, because autogen's types do not name it: it is handed on to the SDK.
    base_url = spec.base_url or address[spec.provider]
    options["http_client"] = _http_client(openai.DefaultAsyncHttpxClient, base_url)
    for message in ("Resolved model mismatch", "Finish reason mismatch"):
        warnings.filterwarnings("ignore", message=message)
    client = OpenAIChatCompletionClient(
        model=spec.model,
        api_key=key or NO_KEY,
        base_url=base_url,
        model_info=_model_info("openai", spec.model) if spec.provider == "openai" else UNKNOWN_MODEL,
        max_retries=0,
        timeout=timeout,
        include_name_in_message=False,
        **options,
    )
    watch_openai(client, chat_request, inspect)
    return client


def _anthropic_client(spec: BackendSpec, key: str, timeout: float) -> ChatCompletionClient:
    try:
        version = importlib.metadata.version("anthropic")
        import anthropic
        from autogen_ext.models.anthropic import AnthropicChatCompletionClient
    except ImportError:  # PackageNotFoundError is one
        raise _missing(spec, "anthropic") from None
    if int(version.partition(".")[0]) >= 1:
        raise SpecError(
            f"The backend '{spec.text}' found anthropic {version}, which autogen cannot use; expected 0.64 "
            f"or newer but below 1; run pip install 'anthropic>=0.64,<1'."
        )
    from learning_signal.agents.model.dialect.outgoing import messages_request
    from learning_signal.agents.model.wire import inspect_anthropic

    options = _set_parameters(spec, ("temperature", "top_p", "max_tokens"))
    if spec.base_url:
        options["base_url"] = spec.base_url
    options["http_client"] = _http_client(anthropic.DefaultAsyncHttpxClient, spec.base_url)  # as above
    client = AnthropicChatCompletionClient(
        model=spec.model,
        api_key=key,
        model_info=_model_info("anthropic", spec.model),
        max_retries=0,
        timeout=timeout,
        **options,
    )
    watch_anthropic(client, messages_request, inspect_anthropic)
    return client


def _http_client(base: type, address: str | None) -> Any:
    from learning_signal.agents.model.transport import UnusableProxy, guarded_client

    try:
        return guarded_client(base, address)
    except UnusableProxy as error:
        raise SpecError(str(error)) from None


def _model_info(family: str, name: str) -> ModelInfo:
    """What a model can do. All are taken to call tools: autogen takes names that it does not know for old models'."""
    return {**(known_model(family, name) or UNKNOWN_MODEL), "function_calling": True}


def _set_parameters(spec: BackendSpec, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(spec.parameters, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _missing(spec: BackendSpec, extra: str) -> SpecError:
    return SpecError(
        f"The backend '{spec.text}' needs packages that are not installed; "
        f"run pip install '.[{extra}]' or choose 'rules'."
    )


def _row(provider: Provider, needs: str, environment: Mapping[str, str]) -> BackendRow:
    example = EXAMPLES[provider]
    package = {"rules": None, "random": None, "replay": None, "anthropic": "anthropic"}.get(provider, "openai")
    installed = provider != "replay" and (package is None or _found(package) and _found("autogen_ext"))
    variable = key_variable(parse_spec(example)) if provider in ("openai", "anthropic") else None
    key = "not needed" if variable is None else "set" if environment.get(variable, "").strip() else "not set"
    return BackendRow(provider, needs, installed, key, example)


def _found(package: str) -> bool:
    return importlib.util.find_spec(package) is not None

"""OpenAI and whatever speaks its protocol: any server by its address, and vendors by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learning_signal.agents.model.dialect.tool_schemas import Form, strict_tool
from learning_signal.agents.model.pinned import forget_environment, watch_openai
from learning_signal.agents.model.providers.address import with_version
from learning_signal.agents.model.providers.entry import Build, ProviderEntry, Wiring
from learning_signal.agents.model.providers.sdk import (
    UNKNOWN_MODEL,
    http_client,
    hush_autogen,
    missing,
    model_info,
    set_parameters,
)
from learning_signal.agents.model.providers.spec import BackendSpec

if TYPE_CHECKING:  # slow to import, as in entry.py
    from autogen_core.models import ChatCompletionClient

OPENAI_ADDRESS = "https://api.openai.com/v1"
NO_KEY = "no-key"
"""Sent to servers that ask for no key, because the SDK insists on one."""
_PACKAGES = ("openai", "autogen_ext")


def _client_for(family: str | None, form: Form | None = None) -> Build:
    """Builds clients for the models that autogen knows by ``family``, or for any model.

    ``form`` is that of tools at the provider's own address.
    """

    def build(spec: BackendSpec, wiring: Wiring) -> ChatCompletionClient:
        try:
            import openai
            from autogen_ext.models.openai import OpenAIChatCompletionClient
        except ImportError:
            raise missing(spec, "openai") from None

        from learning_signal.agents.model.dialect.outgoing import chat_request
        from learning_signal.agents.model.wire import inspect

        assert wiring.address is not None, "a spec names an address where its provider has none"
        options = set_parameters(spec, ("temperature", "top_p", "seed", "reasoning_effort"))
        if spec.parameters.max_tokens is not None:
            # OpenAI's newer models refuse the old name; other servers know only the old one
            limit = "max_completion_tokens" if wiring.address == OPENAI_ADDRESS else "max_tokens"
            options[limit] = spec.parameters.max_tokens
        if spec.parameters.api_version is not None:  # Azure has the key in a header of its own
            options["default_query"] = {"api-version": spec.parameters.api_version}
            options["default_headers"] = {} if wiring.key is None else {"api-key": wiring.key}
        # Among the options, because autogen's types do not name it: it is handed on to the SDK.
        options["http_client"] = http_client(openai.DefaultAsyncHttpxClient, wiring.address)
        hush_autogen()
        client = OpenAIChatCompletionClient(
            model=spec.model,
            api_key=wiring.key or NO_KEY,
            base_url=with_version(wiring.address),
            model_info=UNKNOWN_MODEL if family is None else model_info(family, spec.model),
            max_retries=0,
            timeout=wiring.timeout,
            include_name_in_message=False,
            **options,
        )
        if family is None or spec.base_url is not None:
            forget_environment(client, options.get("default_headers"))
        # OPENAI_BASE_URL may name any other server
        at_home = spec.base_url is None and (family is None or wiring.address == OPENAI_ADDRESS)
        own = form if at_home else None
        watch_openai(client, lambda request: chat_request(request, own), inspect)
        return client

    return build


OPENAI = ProviderEntry(
    name="openai",
    needs="the extra 'openai' and OPENAI_API_KEY",
    example="openai/gpt-4.1-mini?temperature=0",
    build=_client_for("openai", strict_tool),
    extra="openai",
    packages=_PACKAGES,
    key="OPENAI_API_KEY",
    key_needed=True,
    address=OPENAI_ADDRESS,
    address_variable="OPENAI_BASE_URL",
)
SERVER = ProviderEntry(
    name="openai-api",
    needs="the extra 'openai' and any OpenAI-compatible server (a key where it asks for one)",
    example="openai-api/Qwen/Qwen3-8B@http://localhost:8000/v1",
    build=_client_for(None),
    extra="openai",
    packages=_PACKAGES,
    key_of_model=True,
    address_in="needed",
)


def vendor(name: str, key: str, address: str, model: str, form: Form | None = None) -> ProviderEntry:
    """A vendor whose server speaks OpenAI's protocol; ``model`` is for the example, ``form`` that of its tools."""
    return ProviderEntry(
        name=name,
        needs=f"the extra 'openai' and {key}",
        example=f"{name}/{model}",
        build=_client_for(None, form),
        extra="openai",
        packages=_PACKAGES,
        key=key,
        key_needed=True,
        address=address,
    )

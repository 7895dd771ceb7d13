"""Every use of something private to autogen, which is why pyproject.toml pins it to one version (0.7.5).

On an upgrade, check these and nothing else:

* ``autogen_ext.models.openai._model_info.get_info``, ``autogen_ext.models.anthropic._model_info.get_info``:
  what a named model can do; there is no public way to ask.
* ``OpenAIChatCompletionClient._client``, ``AnthropicChatCompletionClient._client``: the SDK's client inside autogen's.
  autogen has no hook between its request and the SDK's, and none between the SDK's reply and its own reading of it,
  which raises AttributeError or IndexError on a reply of the wrong shape.
* ``ollama.AsyncClient._request_raw`` (its SDK, 0.6): what its ``chat`` sends through and reads its reply from.
* ``AssistantAgent._execute_tool_call``: overridden by ``agents.workbench.ToolAgent``;
  ``tests/agents/test_workbench.py`` fails where it is no longer called.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # slow to import, as in backends.py
    from autogen_core.models import ModelInfo


def known_model(family: str, name: str) -> ModelInfo | None:
    """autogen's entry for the model ``name`` of ``family`` (``openai`` or ``anthropic``), or None where it has none.

    Raises ``ImportError`` where the packages of that family are not installed.
    """
    table = importlib.import_module(f"autogen_ext.models.{family}._model_info")
    try:
        return table.get_info(name)
    except (KeyError, ValueError):
        return None


Amend = Callable[[dict[str, Any]], dict[str, Any]]
Look = Callable[[Any], None]


def watch_openai(client: Any, amend: Amend, look: Look) -> None:
    """Make autogen's OpenAI client ``client`` send every request as ``amend`` makes it, and hand every reply of the SDK
    to ``look`` before it reads it.
    """
    _watch(client._client.chat.completions, amend, look)


def watch_anthropic(client: Any, amend: Amend, look: Look) -> None:
    """The same for autogen's Anthropic client."""
    _watch(client._client.messages, amend, look)


def watch_ollama(sdk: Any, http: Any, read: Callable[[Any], dict[str, Any]]) -> None:
    """Make Ollama's SDK ``sdk`` send every request through ``http`` and take what ``read`` makes of the response for
    the JSON of its reply.
    """

    async def request(*arguments: Any, **options: Any) -> Any:
        reply = read(await http.request(*arguments, **options))
        return SimpleNamespace(json=lambda: reply)

    http.base_url = sdk._client.base_url
    sdk._request_raw = request


def forget_environment(client: Any, headers: Mapping[str, str] | None = None) -> None:
    """Send none of what the SDK inside autogen's ``client`` took from its vendor's environment variables (further
    headers, organization, project): the server is another. ``headers`` stay.
    """
    sdk = client._client
    sdk._custom_headers = dict(headers or {})
    for name in ("organization", "project"):
        if hasattr(sdk, name):
            setattr(sdk, name, None)


def _watch(sdk: Any, amend: Amend, look: Look) -> None:
    ask: Callable[..., Awaitable[Any]] = sdk.create

    async def create(**request: Any) -> Any:
        reply = await ask(**amend(request))
        look(reply)
        return reply

    sdk.create = create

"""The client that an agent talks through: autogen's protocol in front of the layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelInfo, RequestUsage

from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.call import Call, CallContext, Caller, Limits, request_hash
from learning_signal.agents.model.keys import read_secrets
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.stack.dialect import Dialect
from learning_signal.agents.model.stack.guard import Guard, TimeLimit
from learning_signal.agents.model.stack.layers import Afford, Insistence, Layer, Memory, Provider, Recorder, Title
from learning_signal.agents.model.stack.shadow import Shadow, Turn
from learning_signal.agents.model.stack.window import Window
from learning_signal.agents.own_client import OwnClient
from learning_signal.agents.tokens import count_tokens
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.plan.budget import Price

SLACK = 1.0
"""Seconds the SDK's own timeout is longer than ours, so that it is ours that ends an attempt and is named."""


def agent_client(
    spec: BackendSpec,
    role: str,
    *,
    ledger: Ledger,
    session_id: str,
    context: CallContext,
    limits: Limits | None = None,
    environment: Mapping[str, str] = os.environ,
    price: Price | None = None,
    afford: Afford | None = None,
    shadow: BackendSpec | None = None,
    shadow_price: Price | None = None,
) -> AgentClient:
    """The client an agent talks through: all layers over the client of its backend.

    The key, if there is one, is also given to ``ledger`` as a secret. ``price`` is for the recorded costs; ``afford``
    is called before every attempt. ``shadow`` is asked the same, and only written down. A client belongs to one event
    loop.

    Raises:
        SpecError: the key, a package or the provider is missing.
    """
    caller = Caller(ledger, session_id, role, spec, context)
    below, client = _stack(caller, limits or Limits(), environment, price, afford)
    if shadow is None:
        return AgentClient(Memory(below, caller), caller, client)
    seen, turn = replace(caller, spec=shadow, shadow=True), Turn(role)
    alone, second = _stack(seen, replace(limits or Limits(), attempts=1), environment, shadow_price, afford, turn.title)
    return AgentClient(Memory(Shadow(below, alone, seen, turn), caller), caller, client, second)


def _stack(
    caller: Caller,
    limits: Limits,
    environment: Mapping[str, str],
    price: Price | None,
    afford: Afford | None,
    title: Title | None = None,
) -> tuple[Layer, ChatCompletionClient]:
    """The layers that are of one backend, and its provider's client at their bottom."""
    spec = caller.spec
    secrets = read_secrets(spec, environment)
    caller.ledger.add_secrets(secrets)
    bounds = limits.with_spec(spec)
    longest = max(seconds for _, seconds in (bounds.attempt(True), bounds.attempt(False)))
    client = build_client(
        spec, caller.role, environment=environment, timeout=longest + SLACK, person=caller.context.person
    )
    provider = Window(TimeLimit(Provider(client), bounds), spec, secrets)
    recorder = Recorder(provider, caller, secrets=secrets, price=price, afford=afford, title=title)
    return Guard(Insistence(Dialect(recorder, caller), caller), spec, limits=bounds, secrets=secrets), client


class AgentClient(OwnClient):
    """Top of the stack: autogen's protocol on one side, ``Call`` on the other. Never streams, never downloads."""

    def __init__(
        self, below: Layer, caller: Caller, client: ChatCompletionClient, beside: ChatCompletionClient | None = None
    ):
        """``client`` is that of the caller's backend, ``beside`` that of its shadow; both are closed with it."""
        self._below, self._caller, self._client, self._beside = below, caller, client, beside

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        cancellation_token: CancellationToken | None = None,
        **options: Any,
    ) -> CreateResult:
        """The model's reply. ``BackendError`` where it gives none that is usable."""
        caller = self._caller
        request = request_hash(caller.spec, caller.role, caller.context, messages, tools)
        return await self._below.answer(Call(messages, tools, request, options, cancellation_token))

    async def close(self) -> None:
        await self._client.close()
        if self._beside is not None:
            await self._beside.close()

    def actual_usage(self) -> RequestUsage:
        return self._client.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self._client.total_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        """Tokens of ``messages``, counted offline (the providers' own counters download a vocabulary)."""
        return sum(count_tokens(message.model_dump_json()) for message in messages)

    @property
    def model_info(self) -> ModelInfo:
        return self._client.model_info

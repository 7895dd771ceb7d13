"""Stands between an agent and a model server: every call ends in a usable reply or in one BackendError.

The SDKs' own retries are off; here is the only retry loop. Streaming is not used: it loses usage and calls.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage, ModelInfo, RequestUsage

from learning_signal.agents.model.faults import RETRYABLE, BackendError, classify
from learning_signal.agents.model.replies import repair_history, sanitise
from learning_signal.agents.model.specs import BackendSpec
from learning_signal.agents.model.tokens import count_tokens
from learning_signal.ledger.errors import LedgerError
from learning_signal.tools.base import CannotGoOn


@dataclass(frozen=True)
class Limits:
    """How long and how often one answer is asked for."""

    attempts: int = 5
    """Most attempts."""
    timeout: float = 120.0
    """Seconds one attempt may take."""
    deadline: float = 300.0
    """Seconds one answer may take, attempts and waits together."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubles with each further one, varied by a quarter."""
    longest_wait: float = 30.0
    """Longest wait in seconds, also where the server asks for a longer one."""

    def with_spec(self, spec: BackendSpec) -> Limits:
        """These limits, except where ``spec`` sets its own."""
        chosen = spec.parameters
        return Limits(
            attempts=self.attempts if chosen.attempts is None else chosen.attempts,
            timeout=self.timeout if chosen.timeout is None else chosen.timeout,
            deadline=self.deadline if chosen.deadline is None else chosen.deadline,
            backoff=self.backoff,
            longest_wait=self.longest_wait,
        )


class ForwardingClient(ChatCompletionClient):
    """A client in front of another one, to which it passes everything on. Never streams, never downloads."""

    def __init__(self, inner: ChatCompletionClient):
        self.inner = inner

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        return await self.inner.create(messages, **options)

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The whole reply as one chunk: streamed replies lose usage and tool calls on some servers."""
        yield await self.create(messages, **options)

    async def close(self) -> None:
        await self.inner.close()

    def actual_usage(self) -> RequestUsage:
        return self.inner.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self.inner.total_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        """Tokens of ``messages``, counted offline (the providers' own counters download a vocabulary)."""
        return sum(count_tokens(message.model_dump_json()) for message in messages)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = ()) -> int:
        raise NotImplementedError("the context window of an arbitrary model is not known")

    @property
    def capabilities(self) -> ModelInfo:
        return self.inner.model_info

    @property
    def model_info(self) -> ModelInfo:
        return self.inner.model_info


class TimedClient(ForwardingClient):
    """Gives one attempt ``seconds`` in all: the SDKs' own timeout starts anew with every byte that arrives.

    It stands under the recorder, so that an attempt that took too long is recorded as that.
    """

    def __init__(self, inner: ChatCompletionClient, seconds: float):
        super().__init__(inner)
        self._seconds = seconds

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        async with asyncio.timeout(self._seconds):
            return await self.inner.create(messages, **options)


class GuardedClient(ForwardingClient):
    """Asks ``inner`` until it gives a usable reply, at most ``limits.attempts`` times within
    ``limits.deadline``.

    Raises:
        BackendError: from ``create``, once the error is permanent or the limits are used up.
    """

    def __init__(
        self,
        inner: ChatCompletionClient,
        spec: BackendSpec,
        *,
        limits: Limits = Limits(),
        secrets: Iterable[str] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        super().__init__(inner)
        self.spec = spec
        self.limits = limits.with_spec(spec)
        self._secrets = tuple(secrets)
        self._sleep = sleep

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Any] = (),
        cancellation_token: CancellationToken | None = None,
        **options: Any,
    ) -> CreateResult:
        limits, clock = self.limits, asyncio.get_running_loop().time
        end = clock() + limits.deadline
        history = repair_history(messages)
        attempt = 1
        while True:
            try:
                async with asyncio.timeout(end - clock()):
                    result = await self.inner.create(
                        history, tools=tools, cancellation_token=cancellation_token, **options
                    )
                return sanitise(result, tool_names(tools), turns(messages))
            except (LedgerError, CannotGoOn):  # the recorder's and the budget's: no fault of the backend
                raise
            except Exception as failure:  # noqa: BLE001 - classify sorts every kind; cancellation is no Exception
                # a chain to the SDK's exception would carry the request's headers, and with them the key
                error = classify(failure, self.spec, self._secrets)
            wait = self._wait(error, attempt, messages)
            if error.kind not in RETRYABLE:
                raise error from None
            if attempt >= limits.attempts or clock() + wait >= end:
                raise self._given_up(error, attempt) from None
            pause = asyncio.ensure_future(self._sleep(wait))
            if cancellation_token is not None:
                cancellation_token.link_future(pause)
            await pause
            attempt += 1

    def _wait(self, error: BackendError, attempt: int, messages: Sequence[LLMMessage]) -> float:
        if error.retry_after is not None:
            return min(error.retry_after, self.limits.longest_wait)
        # varied so that agents do not knock together, yet the same in a repeated run
        seed = f"{attempt}|{messages[-1].model_dump_json() if messages else ''}"
        share = int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        return min(self.limits.backoff * 2 ** (attempt - 1) * (0.75 + 0.5 * share), self.limits.longest_wait)

    def _given_up(self, error: BackendError, attempts: int) -> BackendError:
        if attempts == 1:
            return error
        return BackendError(error.kind, f"{str(error).rstrip('.')} (given up after {attempts} attempts).")


def tool_names(tools: Sequence[Any]) -> list[str]:
    """Names of autogen tools or tool schemas."""
    return [tool["name"] if isinstance(tool, Mapping) else tool.name for tool in tools]


def turns(messages: Sequence[LLMMessage]) -> int:
    """How often the model has spoken in ``messages``."""
    return sum(message.type == "AssistantMessage" for message in messages)

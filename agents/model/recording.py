"""Writes every attempt to reach a model to the ledger, and gives a resumed step the reply it had got."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage

from learning_signal.agents.model.faults import classify
from learning_signal.agents.model.guard import ForwardingClient, tool_names, turns
from learning_signal.agents.model.replies import sanitise
from learning_signal.agents.model.specs import EMBEDDED, BackendSpec
from learning_signal.agents.model.tokens import count_tokens
from learning_signal.agents.model.wire import NOTE, WireNote, believable
from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.write.recall import recall_reply
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.plan.budget import Price

Afford = Callable[[int, float], None]
"""Told the estimated tokens of a request and their USD; raises ``CannotGoOn`` where the budget does not cover them."""


@dataclass
class CallContext:
    """Where the session stands; its owner keeps it up to date and every call is recorded under it.

    ``round``, ``phase`` and ``step`` together must name one model call of an agent: the same call after a
    resume has the same three, another call never has. Put the refinement and the number of the question
    into ``step``.
    """

    round: int | None = None
    phase: str | None = None
    step: str = ""


_REQUEST: ContextVar[str | None] = ContextVar("_REQUEST", default=None)
"""Hash of the request in flight, made above the guard (which repairs histories) for the recorder below it."""


def request_hash(
    spec: BackendSpec, role: str, context: CallContext, messages: Sequence[LLMMessage], tools: Sequence[Any]
) -> str:
    """SHA-256 over everything that makes a request: backend, place in the session, messages and tools."""
    parts = [
        spec.text,
        [role, context.round, context.phase, context.step],
        [message.model_dump(mode="json") for message in messages],
        [_schema(tool) for tool in tools],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ReplyMemory(ForwardingClient):
    """Top of the stack: answers from the ledger where this very step was answered before it was cut short.

    This makes a resumed step the same even behind a backend that would answer differently each time. It
    also gives tool calls ids derived from the request, which are unique in a session whatever ids the model
    uses: a call that has happened is recognised by its id.
    """

    def __init__(
        self,
        inner: ChatCompletionClient,
        ledger: Ledger,
        session_id: str,
        role: str,
        spec: BackendSpec,
        context: CallContext,
    ):
        super().__init__(inner)
        self._ledger, self._session, self._role = ledger, session_id, role
        self._spec, self._context = spec, context

    async def create(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = (), **options: Any
    ) -> CreateResult:
        request = request_hash(self._spec, self._role, self._context, messages, tools)
        recorded = recall_reply(self._ledger, self._session, request)
        if recorded is not None:
            result = CreateResult.model_validate_json(recorded)
        else:
            token = _REQUEST.set(request)
            try:
                result = await self.inner.create(messages, tools=tools, **options)
            finally:
                _REQUEST.reset(token)
        return _with_own_ids(result, request)


class RecordingClient(ForwardingClient):
    """Under the guard: one ``llm_calls`` row per attempt, pending before it and completed after it."""

    def __init__(
        self,
        inner: ChatCompletionClient,
        ledger: Ledger,
        session_id: str,
        role: str,
        spec: BackendSpec,
        context: CallContext,
        secrets: Iterable[str] = (),
        price: Price | None = None,
        afford: Afford | None = None,
    ):
        super().__init__(inner)
        self._ledger, self._session, self._role = ledger, session_id, role
        self._spec, self._context, self._secrets = spec, context, tuple(secrets)
        self._price, self._afford = price, afford
        self._last_request, self._attempt = "", 0
        self._stored: dict[str, BodyHash] = {}
        """Bodies of the last request that was recorded, by their JSON."""

    async def create(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Any] = (), **options: Any
    ) -> CreateResult:
        """``inner``'s reply, made safe to act on.

        Raises:
            BackendError: whatever went wrong, classified as it is recorded.
            CannotGoOn: the budget does not cover the call; nothing was sent.
        """
        if self._afford is not None:
            size = self._size(messages, tools)
            self._afford(size, 0.0 if self._price is None else self._price.of(size, 0))
        request = _REQUEST.get() or request_hash(self._spec, self._role, self._context, messages, tools)
        self._attempt = self._attempt + 1 if request == self._last_request else 1
        self._last_request = request
        row, event = self._begin(request, messages, tools)
        note, started, received = WireNote(), time.perf_counter(), None
        token = NOTE.set(note)
        try:
            received = await self.inner.create(messages, tools=tools, **options)
            result = sanitise(received, tool_names(tools), turns(messages))
        except asyncio.CancelledError:
            self._end(row, event, started, note, "interrupted", f"The call of the {self._role} was interrupted.")
            raise
        except Exception as failure:  # noqa: BLE001 - classify sorts every kind
            error = classify(failure, self._spec, self._secrets)
            self._end(
                row,
                event,
                started,
                note,
                "error",
                str(error),
                error_kind=error.kind,
                error=str(error),
                **self._cost(self._wasted(received, note)),
            )
            # the SDK's exception holds the request's headers, and with them the key
            raise error from None
        finally:
            NOTE.reset(token)
        self._end(
            row,
            event,
            started,
            note,
            "ok",
            f"{self._role}: {summary(result)}",
            reply=reply_json(result),
            finish=note.finish_reason or result.finish_reason,
            **self._cost(self._tokens(result, messages, tools)),
        )
        return result

    def _begin(self, request: str, messages: Sequence[LLMMessage], tools: Sequence[Any]) -> tuple[int, int]:
        ledger, context = self._ledger, self._context
        sent = [message.model_dump(mode="json") for message in messages]
        stored: dict[str, BodyHash] = {}
        with ledger.transaction("llm call begins"):
            event = ledger.event(
                self._session,
                "llm_call",
                f"{self._role} asks {self._spec.text}",
                round=context.round,
                phase=context.phase,
                agent=self._role,
                status="pending",
            )
            row = ledger.add(
                "llm_calls",
                event_seq=event,
                session_id=self._session,
                agent=self._role,
                request_hash=request,
                attempt=self._attempt,
                spec=self._spec.text,
                model_requested=self._spec.model,
                context=[self._body(message, stored) for message in sent],
                tools=self._body([_schema(tool) for tool in tools], stored),
                status="pending",
            )
        self._stored = stored
        return row, event

    def _body(self, value: Any, stored: dict[str, BodyHash]) -> BodyHash:
        """The body of ``value``, of which all but the newest were stored with the request before."""
        text = json.dumps(value)
        stored[text] = self._stored.get(text) or self._ledger.json_body(value)
        return stored[text]

    def _end(
        self,
        row: int,
        event: int,
        started: float,
        note: WireNote,
        status: str,
        title: str,
        finish: str | None = None,
        **columns: Any,
    ) -> None:
        milliseconds = (time.perf_counter() - started) * 1000
        with self._ledger.transaction(f"llm call {status}"):
            self._ledger.complete(
                "llm_calls",
                row,
                status=status,
                latency_ms=milliseconds,
                model_served=note.model_served,
                finish_reason=finish or note.finish_reason,
                **columns,
            )
            self._ledger.complete_event(event, status, title, ref=("llm_calls", row))

    def _tokens(self, result: CreateResult, messages: Sequence[LLMMessage], tools: Sequence[Any]) -> dict[str, Any]:
        """Token columns: the server's own figures where it gave any that can be (autogen says 0 where it gave none)."""
        usage = result.usage
        known = usage.prompt_tokens > 0 and believable(usage.prompt_tokens) and believable(usage.completion_tokens)
        if known and self._spec.provider not in EMBEDDED and usage.completion_tokens > 0:
            return {"tokens_in": usage.prompt_tokens, "tokens_out": usage.completion_tokens, "tokens_source": "server"}
        if known:  # an embedded backend has estimated its own
            return {
                "tokens_in": usage.prompt_tokens,
                "tokens_out": usage.completion_tokens,
                "tokens_source": "estimate",
            }
        return {
            "tokens_in": self._size(messages, tools),
            "tokens_out": count_tokens(json.dumps(reply_json(result))),
            "tokens_source": "estimate",
        }

    def _wasted(self, received: CreateResult | None, note: WireNote) -> dict[str, Any]:
        """Token columns of a reply that was of no use, which is paid for too; none where the server gave no figures."""
        usage = note.usage
        if received is not None:
            usage = received.usage.prompt_tokens, received.usage.completion_tokens
        if usage is None or usage[0] <= 0 or not all(map(believable, usage)):
            return {}
        source = "estimate" if self._spec.provider in EMBEDDED else "server"
        return {"tokens_in": usage[0], "tokens_out": usage[1], "tokens_source": source}

    def _cost(self, tokens: dict[str, Any]) -> dict[str, Any]:
        """Token columns with what they cost, where both are known."""
        if self._price is None or not tokens:
            return tokens
        return tokens | {"cost_usd": self._price.of(tokens["tokens_in"], tokens["tokens_out"])}

    @staticmethod
    def _size(messages: Sequence[LLMMessage], tools: Sequence[Any]) -> int:
        """Tokens of a request, estimated."""
        sent = [*(message.model_dump_json() for message in messages), *(json.dumps(_schema(tool)) for tool in tools)]
        return count_tokens("\n".join(sent))


def reply_json(result: CreateResult) -> dict[str, Any]:
    """A reply as stored in the ledger, and as ``ReplyMemory`` reads it back."""
    return result.model_dump(mode="json", exclude={"logprobs"})


def summary(result: CreateResult, limit: int = 100) -> str:
    """A reply in one line."""
    if isinstance(result.content, str):
        line = " ".join(result.content.split())
        return line if len(line) <= limit else line[: limit - 3] + "..."
    return "calls " + ", ".join(call.name for call in result.content)


def _with_own_ids(result: CreateResult, request: str) -> CreateResult:
    if isinstance(result.content, str):
        return result
    calls = [
        FunctionCall(
            id="call_" + hashlib.sha256(f"{request}|{index}".encode()).hexdigest()[:24],
            name=call.name,
            arguments=call.arguments,
        )
        for index, call in enumerate(result.content)
    ]
    return result.model_copy(update={"content": calls})


def _schema(tool: Any) -> dict[str, Any]:
    return tool if isinstance(tool, dict) else dict(tool.schema)

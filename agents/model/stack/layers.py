"""The layers between an agent and its model, in the order in which a call goes down through them.

    autogen's AssistantAgent (deliberation.py)
     |  messages, tools                                                    ^  reply
     v                                                                     |
    AgentClient   names the call by a hash: Call.request                   |  speaks autogen's protocol
    Memory        a request that the ledger has an answer to ends here     |  gives tool calls ids of this session
    Shadow        -                                                        |  asks a second backend too (shadow.py)
    Guard         repairs the history                                      |  retries transient faults
    Insistence    asks for a call where the last reply had none            |  asks without it where that is refused
    Dialect       says what must come back to the server                   |  asks in another form where that is wanted
    Recorder      asks the budget, writes a pending row                    |  completes it: ok, error or interrupted
    Window        leaves out the oldest turns where they do not fit        |  learns the window from a refusal
    TimeLimit     -                                                        |  ends an attempt that takes too long
    Provider      -                                                        |  makes the reply safe to act on
     |                                                                     |
     v                                                                     |
    autogen's client of the backend (providers/), wire.py, transport.py    |  checks the raw reply, fills Call.note

The SDKs' own retries are off; ``Guard`` is the only retry loop (guard.py, with TimeLimit). Streaming is not used: it
loses usage and calls. Layers communicate through the fields of ``Call``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from autogen_core.models import ChatCompletionClient, CreateResult

from learning_signal.agents.call_ids import with_own_ids
from learning_signal.agents.model.call import Call, Caller
from learning_signal.agents.model.dialect.manner import Manner
from learning_signal.agents.model.dialect.outgoing import OUTGOING
from learning_signal.agents.model.dialect.reasoning import understood
from learning_signal.agents.model.dialect.usage import usage_of
from learning_signal.agents.model.dialect.window import refuse_cut
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.faults import classify
from learning_signal.agents.model.prices import request_tokens, tokens_of_failure, tokens_of_reply, with_cost
from learning_signal.agents.model.providers.registry import entry_of
from learning_signal.agents.model.text import summary
from learning_signal.agents.model.wire import NOTE, WireNote
from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.write.recall import recall_reply
from learning_signal.tools.base import CannotGoOn
from learning_signal.tools.plan.budget import Price

REFUSALS = (400, 404, 405, 422, 500, 501)
"""What servers answer to a ``tool_choice`` that they do not know."""

Afford = Callable[[int, float], None]
"""Called with the estimated tokens and USD of a request; raises ``CannotGoOn`` if the budget does not cover them."""


Title = Callable[[CreateResult], str]
"""The title of the event of a reply."""


class Layer(Protocol):
    """A step of answering a call, alone or with the layer below."""

    async def answer(self, call: Call) -> CreateResult:
        """The reply to ``call``."""


class Memory:
    """Answers from the ledger if this step was answered before it was interrupted.

    So a resumed step is the same, even behind a backend that is not deterministic.
    """

    def __init__(self, below: Layer, caller: Caller):
        self._below, self._caller = below, caller

    async def answer(self, call: Call) -> CreateResult:
        recorded = recall_reply(self._caller.ledger, self._caller.session, call.request)
        reply = CreateResult.model_validate_json(recorded) if recorded is not None else await self._below.answer(call)
        return with_own_ids(reply, call.request)


class Insistence:
    """Makes the model call a tool (``tool_choice`` required) where its last reply called none.

    Not every server takes that: one that refuses is asked again without it, and from then on not any more. Another
    fault is the caller's, whose next attempt goes without it.
    """

    def __init__(self, below: Layer, caller: Caller):
        self._below, self._caller = below, caller
        self._refused, self._failed = not entry_of(caller.spec).tool_choice, ""

    async def answer(self, call: Call) -> CreateResult:
        if not (self._caller.context.insist and call.tools) or self._refused or call.request == self._failed:
            return await self._below.answer(call)
        try:
            return await self._below.answer(replace(call, options={**call.options, "tool_choice": "required"}))
        except BackendError as error:
            self._failed = call.request
            if error.status not in REFUSALS:
                raise
        result = await self._below.answer(call)
        self._refused = True
        return result


@dataclass(frozen=True)
class _Row:
    """The row of an attempt in flight, its event, and when the attempt began (``time.perf_counter``)."""

    number: int
    event: int
    started: float


class Recorder:
    """One ``llm_calls`` row per attempt, pending before it and completed after it."""

    def __init__(
        self,
        below: Layer,
        caller: Caller,
        *,
        secrets: Iterable[str] = (),
        price: Price | None = None,
        afford: Afford | None = None,
        title: Title | None = None,
    ):
        """``title`` gives the title of a reply's event, in place of a summary of the reply."""
        self._below, self._caller, self._secrets = below, caller, tuple(secrets)
        self._price, self._afford, self._title = price, afford, title
        self._last_request, self._attempt = "", 0
        self._stored: dict[str, BodyHash] = {}
        """Bodies of the last request that was recorded, by their JSON."""

    async def answer(self, call: Call) -> CreateResult:
        """The reply of the layer below.

        Raises:
            BackendError: whatever went wrong, classified as it is recorded.
            CannotGoOn: the budget does not cover the call; nothing was sent.
        """
        spec, role = self._caller.spec, self._caller.name
        if self._afford is not None:
            tokens = request_tokens(call)
            self._afford(tokens, 0.0 if self._price is None else self._price.of(tokens, 0))
        call = replace(call, note=WireNote())
        row = self._begin(call)
        try:
            result = await self._below.answer(call)
        except asyncio.CancelledError:
            self._end(row, call.note, "interrupted", f"The call of the {role} was interrupted.")
            raise
        except CannotGoOn as stopped:  # a person who plays the agent leaves
            self._end(row, call.note, "interrupted", str(stopped))
            raise
        except Exception as failure:  # noqa: BLE001 - classify sorts every kind
            error = classify(failure, spec, self._secrets)
            cost = with_cost(tokens_of_failure(spec, call.note), self._price)
            self._end(row, call.note, "error", str(error), error_kind=error.kind, error=str(error), **cost)
            # the SDK's exception holds the request's headers, and with them the key
            raise error from None
        reply = result.model_dump(mode="json", exclude={"logprobs"})
        title = f"{role}: {summary(result)}" if self._title is None else self._title(result)
        if call.note.written is not None:
            reply, title = reply | {"written": call.note.written}, f"{title}, understood from {call.note.read_in}"
        if call.note.carried is not None:
            reply |= {"carried": call.note.carried.model_dump(mode="json", exclude_defaults=True)}
        if call.note.left_out:
            reply, title = reply | {"left_out": call.note.left_out}, f"{title}, {call.note.left_out} turns left out"
        if call.outgoing.manner != Manner():
            reply |= {"manner": asdict(call.outgoing.manner)}
        self._end(
            row,
            call.note,
            "ok",
            title,
            reply=reply,
            finish_reason=call.note.finish_reason or result.finish_reason,
            **with_cost(tokens_of_reply(spec, call, result), self._price),
        )
        return result

    def _begin(self, call: Call) -> _Row:
        ledger, spec = self._caller.ledger, self._caller.spec
        session, name, context = self._caller.session, self._caller.name, self._caller.context
        self._attempt = self._attempt + 1 if call.request == self._last_request else 1
        self._last_request = call.request
        sent = [message.model_dump(mode="json") for message in call.messages]
        stored: dict[str, BodyHash] = {}
        with ledger.transaction("llm call begins"):
            event = ledger.event(
                session,
                "shadow" if self._caller.shadow else "llm_call",
                f"{name} asks {spec.text}",
                round=context.round,
                phase=context.phase,
                agent=self._caller.role,
                status="pending",
            )
            row = ledger.add(
                "llm_calls",
                event_seq=event,
                session_id=session,
                agent=name,
                request_hash=call.request,
                attempt=self._attempt,
                spec=spec.text,
                model_requested=spec.model,
                context=[self._body(message, stored) for message in sent],
                tools=self._body(call.schemas, stored),
                status="pending",
            )
        self._stored = stored
        return _Row(row, event, time.perf_counter())

    def _body(self, value: Any, stored: dict[str, BodyHash]) -> BodyHash:
        """The body of ``value``, of which all but the newest were stored with the request before."""
        text = json.dumps(value)
        stored[text] = self._stored.get(text) or self._caller.ledger.json_body(value)
        return stored[text]

    def _end(self, row: _Row, note: WireNote, status: str, title: str, **columns: Any) -> None:
        milliseconds = (time.perf_counter() - row.started) * 1000
        noted = {"model_served": note.model_served, "finish_reason": note.finish_reason}
        with self._caller.ledger.transaction(f"llm call {status}"):
            self._caller.ledger.complete(
                "llm_calls", row.number, status=status, latency_ms=milliseconds, **noted | columns
            )
            self._caller.ledger.complete_event(row.event, status, title, ref=("llm_calls", row.number))


class Provider:
    """Bottom of the stack: asks autogen's client of the backend, and makes its reply safe to act on."""

    def __init__(self, client: ChatCompletionClient):
        self._client = client

    async def answer(self, call: Call) -> CreateResult:
        """The reply. Raises whatever the client, the wire or ``understood`` raises."""
        note, token, outgoing = call.note, NOTE.set(call.note), OUTGOING.set(call.outgoing)
        try:
            received = await self._client.create(
                call.messages, tools=call.tools, cancellation_token=call.cancellation_token, **call.options
            )
        finally:
            NOTE.reset(token)
            OUTGOING.reset(outgoing)
        if note.usage is not None:
            refuse_cut(call.messages, call.schemas, note.usage.received)
        else:
            note.usage = usage_of(received.usage)
        reply = understood(received, note.carried, call.schemas)
        note.carried, note.written, note.read_in = reply.carried, reply.written, reply.read_in
        return reply.result

"""The only retry loop, and the limit of one attempt."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from autogen_core.models import CreateResult, LLMMessage

from learning_signal.agents.model.call import Call, Limits
from learning_signal.agents.model.errors import RETRYABLE, BackendError, LateReply
from learning_signal.agents.model.faults import classify
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.replies import repair_history
from learning_signal.agents.model.stack.layers import Layer
from learning_signal.ledger.errors import LedgerError
from learning_signal.tools.base import CannotGoOn


class Guard:
    """Asks ``below`` until it gives a usable reply, at most ``limits.attempts`` times within ``limits.deadline``.

    Raises:
        BackendError: from ``answer``, once the error is permanent or the limits are used up.
    """

    def __init__(
        self,
        below: Layer,
        spec: BackendSpec,
        *,
        limits: Limits,
        secrets: Iterable[str] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._below, self._spec, self._limits = below, spec, limits.with_spec(spec)
        self._secrets, self._sleep = tuple(secrets), sleep
        self._answered = False

    async def answer(self, call: Call) -> CreateResult:
        limits, clock = self._limits, asyncio.get_running_loop().time
        deadline, limit = limits.answer(not self._answered), limits.attempt(not self._answered)
        end = clock() + deadline
        repaired = replace(call, messages=repair_history(call.messages))
        attempt = 1
        while True:
            try:
                async with asyncio.timeout(end - clock()) as whole:
                    result = await self._below.answer(repaired)
                self._answered = True
                return result
            except (LedgerError, CannotGoOn):  # the recorder's and the budget's: no fault of the backend
                raise
            except Exception as failure:  # noqa: BLE001 - classify sorts every kind; cancellation is no Exception
                # a chain to the SDK's exception would carry the request's headers, and with them the key
                if whole.expired() and deadline != limit[1]:
                    error = late(self._spec, deadline)
                else:
                    failed = LateReply(*limit) if whole.expired() else failure
                    error = classify(failed, self._spec, self._secrets)
            wait = self._wait(error, attempt, call.messages)
            if error.kind not in RETRYABLE:
                raise error from None
            if attempt >= limits.attempts or clock() + wait >= end:
                raise given_up(error, attempt, deadline) from None
            pause = asyncio.ensure_future(self._sleep(wait))
            if call.cancellation_token is not None:
                call.cancellation_token.link_future(pause)
            await pause
            attempt += 1

    def _wait(self, error: BackendError, attempt: int, messages: Sequence[LLMMessage]) -> float:
        """Seconds before the next attempt: as the server asked, or exponential backoff with a deterministic jitter."""
        if error.retry_after is not None:
            return error.retry_after
        seed = f"{attempt}|{messages[-1].model_dump_json() if messages else ''}"
        share = int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        return min(self._limits.backoff * 2 ** (attempt - 1) * (0.75 + 0.5 * share), self._limits.longest_wait)


class TimeLimit:
    """Limits one attempt in all: the SDKs' own timeout restarts with every byte that arrives.

    It sits below the recorder, so that a timeout is recorded as one.
    """

    def __init__(self, below: Layer, limits: Limits):
        self._below, self._limits, self._answered = below, limits, False

    async def answer(self, call: Call) -> CreateResult:
        """The reply of the layer below. Raises ``LateReply``, and whatever that layer raises."""
        limit, seconds = self._limits.attempt(not self._answered)
        try:
            async with asyncio.timeout(seconds) as attempt:
                result = await self._below.answer(call)
        except TimeoutError:
            if not attempt.expired():
                raise
            raise LateReply(limit, seconds) from None
        self._answered = True
        return result


def late(spec: BackendSpec, deadline: float) -> BackendError:
    """What is said of a backend without an answer at its ``deadline``, in seconds."""
    found = f"did not answer within its deadline of {deadline:g} seconds, attempts and waits together"
    advice = "allow more with '?deadline=SECONDS', or with 'deadline' in [deliberation] of --config for every backend"
    return BackendError("transient", f"Backend '{spec.text}' {found}; {advice}.")


def given_up(error: BackendError, attempts: int, deadline: float) -> BackendError:
    """``error`` after the last of so many ``attempts``, within a ``deadline`` in seconds."""
    notes = [f"given up after {attempts} attempts"] if attempts > 1 else []
    if error.retry_after is not None and error.retry_after >= deadline / 2:
        notes.append(
            f"it asks to wait {error.retry_after:.0f} seconds; '?deadline=SECONDS' allows more than {deadline:.0f}"
        )
    said = f"{str(error).rstrip('.')} ({'; '.join(notes)})." if notes else str(error)
    return BackendError(error.kind, said)

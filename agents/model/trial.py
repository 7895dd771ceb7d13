"""Tries a backend out with one tiny tool call."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autogen_core.models import UserMessage

from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.call import Call, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.faults import mask
from learning_signal.agents.model.keys import read_secrets
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.agents.model.stack.guard import Guard
from learning_signal.agents.model.stack.layers import Provider


@dataclass(frozen=True)
class CheckResult:
    """The result of a trial call."""

    spec: str
    ok: bool
    sentence: str
    latency_ms: float | None = None
    model_served: str | None = None


async def check(spec: BackendSpec, environment: Mapping[str, str] = os.environ, timeout: float = 20.0) -> CheckResult:
    """Ask the backend for one tiny tool call (a few dozen tokens).

    ``timeout`` seconds are allowed unless the spec sets its own. Never raises for a backend that does not
    work.
    """
    if spec.provider in EMBEDDED:
        return CheckResult(spec.text, True, f"The backend '{spec.provider}' is embedded: there is nothing to reach.")
    tool = {
        "name": "report_status",
        "description": "Report that you can be reached.",
        "parameters": {
            "type": "object",
            "properties": {"status": {"type": "string"}},
            "required": ["status"],
            "additionalProperties": False,
        },
    }
    request = UserMessage(content="Call the tool report_status with status 'ready'.", source="user")
    limits = Limits(attempts=1, timeout=timeout, deadline=timeout).with_spec(spec)
    limits = replace(limits, attempts=1, deadline=limits.attempt(first=True)[1])
    call = Call([request], tools=[tool])
    try:
        secrets = read_secrets(spec, environment)
        client = build_client(spec, "critic", environment=environment, timeout=limits.deadline + 1.0)
        guard = Guard(Provider(client), spec, limits=limits, secrets=secrets)
        started = time.perf_counter()
        try:
            result = await guard.answer(call)
        finally:
            await client.close()
    except (SpecError, BackendError) as error:
        return CheckResult(spec.text, False, mask(str(error)))
    milliseconds = (time.perf_counter() - started) * 1000
    if isinstance(result.content, str):
        sentence = f"Backend '{spec.text}' answers but called no tool; choose a model that supports tool calling."
        return CheckResult(spec.text, False, sentence, milliseconds, call.note.model_served)
    served = f" (served by {call.note.model_served})" if call.note.model_served else ""
    sentence = f"Backend '{spec.text}' answers and calls tools{served}, in {milliseconds:.0f} ms."
    return CheckResult(spec.text, True, sentence, milliseconds, call.note.model_served)

"""Tries a backend out: with one tiny tool call, or as a session would use it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autogen_core.models import CreateResult, LLMMessage, SystemMessage, UserMessage

from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.call import Call, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.faults import mask
from learning_signal.agents.model.keys import read_secrets
from learning_signal.agents.model.providers.registry import EMBEDDED
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.agents.model.stack.guard import Guard
from learning_signal.agents.model.stack.layers import Provider
from learning_signal.agents.model.text import one_line
from learning_signal.agents.tokens import count_tokens

STATUS_TOOL: dict[str, Any] = {
    "name": "report_status",
    "description": "Report that you can be reached.",
    "parameters": {
        "type": "object",
        "properties": {"status": {"type": "string"}},
        "required": ["status"],
        "additionalProperties": False,
    },
}
LIST_TOOL: dict[str, Any] = {
    "name": "report_terms",
    "description": "Report a word and two terms.",
    "parameters": {
        "type": "object",
        "properties": {
            "word": {"type": "string", "description": "The secret word."},
            "terms": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"potential": {"type": "string"}, "weight": {"type": "number"}},
                    "required": ["potential", "weight"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["word", "terms"],
        "additionalProperties": False,
    },
}
"""A call of the kind that a proposal is: objects with numbers within a list."""
SESSION_TOKENS = 12_000
"""Tokens of the largest request that a phase of a session usually makes."""
WORD = "heliotrope"


@dataclass(frozen=True)
class CheckResult:
    """The result of a trial call."""

    spec: str
    ok: bool
    sentence: str
    latency_ms: float | None = None
    model_served: str | None = None
    prompt_tokens: int | None = None
    """Tokens of the largest prompt that was tried, as the server counted them; None where it does not."""


async def check(
    spec: BackendSpec, environment: Mapping[str, str] = os.environ, timeout: float = 20.0, *, whole: bool = False
) -> CheckResult:
    """Ask the backend for one tiny tool call (a few dozen tokens).

    With ``whole`` also for a nested call at the end of a prompt as long as those of a session, whose beginning has to
    be known for it. ``timeout`` seconds are allowed for each unless the spec sets its own. Never raises for a backend
    that does not work.
    """
    if spec.provider in EMBEDDED:
        return CheckResult(spec.text, True, f"The backend '{spec.provider}' is embedded: there is nothing to reach.")
    tiny = UserMessage(content="Call the tool report_status with status 'ready'.", source="user")
    first = await _asked(spec, environment, timeout, [tiny], STATUS_TOOL)
    if not isinstance(first, _Answer):
        return first
    if isinstance(first.result.content, str):
        sentence = f"Backend '{spec.text}' answers but called no tool; choose a model that supports tool calling."
        return CheckResult(spec.text, False, sentence, first.milliseconds, first.served)
    served = f" (served by {first.served})" if first.served else ""
    sentence = f"Backend '{spec.text}' answers and calls tools{served}, in {first.milliseconds:.0f} ms."
    result = CheckResult(spec.text, True, sentence, first.milliseconds, first.served)
    return await _of_a_session(spec, environment, timeout, result) if whole else result


async def _of_a_session(
    spec: BackendSpec, environment: Mapping[str, str], timeout: float, result: CheckResult
) -> CheckResult:
    """``result`` after a trial with a long prompt and a nested call."""
    second = await _asked(spec, environment, timeout, _long_prompt(), LIST_TOOL)
    if not isinstance(second, _Answer):
        sentence = f"{result.sentence} With a prompt of {SESSION_TOKENS:,} tokens: {second.sentence}"
        return replace(result, ok=False, sentence=sentence)
    tokens = f"{second.tokens:,}" if second.tokens is not None else f"about {SESSION_TOKENS:,}"
    wrong = _wrong(second.result)
    seconds = second.milliseconds / 1000
    said = f"A prompt of {tokens} tokens, as long as those of a session, took {seconds:.1f} s"
    if wrong is None:
        sentence = f"{result.sentence} {said}; it was read whole, and the nested call is as it has to be."
    else:
        sentence = f"{result.sentence} {said}, but {wrong}."
    return replace(result, ok=wrong is None, sentence=sentence, prompt_tokens=second.tokens)


def _long_prompt() -> list[LLMMessage]:
    """A prompt of ``SESSION_TOKENS`` tokens with a word at its beginning that its end asks for."""
    line = "Feature {0}: mean 0.{0}, deviation 0.31, rank correlation with success 0.{0}, lower is better."
    begin = f"The secret word is {WORD}. Keep it in mind; notes about features follow.\n"
    one = count_tokens(line.format(100))
    notes = "\n".join(line.format(number) for number in range(100, 100 + SESSION_TOKENS // one))
    end = (
        "Call the tool report_terms with the secret word from the beginning of these notes, and with two terms: "
        "potential 'speed' with weight -1.5, and potential 'spacing' with weight 0.5."
    )
    return [SystemMessage(content=begin + notes), UserMessage(content=end, source="user")]


def _wrong(result: CreateResult) -> str | None:
    """What is wrong with the nested call and what to do, or None."""
    if isinstance(result.content, str):
        return "it was answered without a call: choose a model that calls tools after long prompts"
    try:
        arguments = json.loads(result.content[0].arguments)
        terms = [(str(each["potential"]), float(each["weight"])) for each in arguments["terms"]]
        word = str(arguments["word"])
    except (ValueError, KeyError, TypeError, RecursionError):
        found = one_line(result.content[0].arguments, 80)
        return f"the nested call reads {found}: choose a model that keeps to the schemas of tools"
    if word.lower() != WORD:
        found = one_line(word, 40)
        return f"its beginning was not read (the word is '{WORD}', and it says '{found}'): give it a larger context"
    if terms != [("speed", -1.5), ("spacing", 0.5)]:
        return f"the call has other terms than it was asked for ({one_line(str(terms), 80)}): choose a stronger model"
    return None


@dataclass(frozen=True)
class _Answer:
    """What a trial call came to."""

    result: CreateResult
    milliseconds: float
    served: str | None
    tokens: int | None


async def _asked(
    spec: BackendSpec,
    environment: Mapping[str, str],
    timeout: float,
    messages: list[LLMMessage],
    tool: Mapping[str, Any],
) -> _Answer | CheckResult:
    """The answer to one call, or the result of a backend that gives none."""
    limits = Limits(attempts=1, timeout=timeout, deadline=timeout).with_spec(spec)
    limits = replace(limits, attempts=1, deadline=limits.attempt(first=True)[1])
    call = Call(messages, tools=[tool])
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
    tokens = call.note.usage.received if call.note.usage is not None else None
    return _Answer(result, milliseconds, call.note.model_served, tokens or None)

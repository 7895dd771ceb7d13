"""Faults of model servers, classified and put into one sentence for the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from learning_signal.agents.model.keys import key_variable
from learning_signal.agents.model.replies import EmptyReply
from learning_signal.agents.model.specs import EMBEDDED, BackendSpec
from learning_signal.agents.model.text import one_line
from learning_signal.agents.model.transport import RefusedRedirect
from learning_signal.agents.model.wire import TruncatedReply, UnreadableReply

Kind = Literal["transient", "permanent", "protocol", "truncated", "empty"]
RETRYABLE: frozenset[Kind] = frozenset({"transient", "protocol", "truncated", "empty"})


class BackendError(Exception):
    """A model gave no usable answer. ``str`` is one sentence for the user: which backend, what happened,
    what to do.

    ``kind`` is transient (server busy, down or slow), permanent (a retry does not help), protocol (the reply was no
    chat completion), truncated or empty. ``retry_after`` is the wait in seconds the server asked for, or None;
    ``status`` that of its HTTP answer, where there was one.
    """

    def __init__(self, kind: Kind, sentence: str, retry_after: float | None = None, status: int | None = None):
        super().__init__(sentence)
        self.kind: Kind = kind
        self.retry_after, self.status = retry_after, status


def classify(error: BaseException, spec: BackendSpec, secrets: Iterable[str] = ()) -> BackendError:
    """``error``, raised by a model client, as a BackendError about ``spec``; no key survives in it."""
    if isinstance(error, BackendError):
        return error
    kind, found, advice = _judge(error, spec)
    sentence = f"Backend '{spec.text}' {found}; {advice}."
    status = getattr(error, "status_code", None)
    return BackendError(kind, mask(" ".join(sentence.split()), secrets), _retry_after(error), status)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the given secrets and without what looks like a key."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[redacted]")
    return re.sub(r"\b(sk-|Bearer\s+)[\w\-.*]{6,}", "[redacted]", text)


def _judge(error: BaseException, spec: BackendSpec) -> tuple[Kind, str, str]:
    """(kind, what was found, what to do) for an exception of a model client."""
    if isinstance(error.__cause__, (RefusedRedirect, UnreadableReply)):  # wrapped in the SDK's own error
        error = error.__cause__
    where = f" at {spec.base_url}" if spec.base_url else ""
    status = getattr(error, "status_code", None)
    names = {cls.__name__ for cls in type(error).__mro__}
    if spec.provider in EMBEDDED and not isinstance(error, (EmptyReply, TimeoutError)):
        return (
            "permanent",
            f"failed with {type(error).__name__}: {_excerpt(str(error))}",
            f"this is a fault of the backend '{spec.provider}'",
        )
    if isinstance(status, int):
        return _judge_status(error, status, spec, where)
    if isinstance(error, TruncatedReply) or "LengthFinishReasonError" in names:
        return "truncated", "cut its reply at the token limit", "raise it with '?max_tokens=N'"
    if isinstance(error, EmptyReply):
        return "empty", "replied with neither text nor a tool call", "try again or choose another model"
    if isinstance(error, RefusedRedirect):
        found = f"is redirected{where} to {error}, expected an answer, and nothing was sent there"
        return "permanent", found, "write that address into the spec if it is the server you mean"
    if isinstance(error, UnreadableReply):
        advice = "check that the address is that of the model's API (it usually ends in /v1)"
        return "protocol", f"answered{where} with {error}", advice
    if isinstance(error, TimeoutError) or names & {"APITimeoutError", "TimeoutException"}:
        return "transient", f"did not answer in time{where}", "wait, or allow more with '?timeout=SECONDS'"
    if isinstance(error, OSError) or names & {"APIConnectionError", "TransportError"}:
        advice = "start the server, or correct the address or the network"
        if spec.provider == "ollama":
            advice = f"start it with 'ollama serve' and fetch the model with 'ollama pull {spec.model}'"
        return "transient", f"cannot be reached{where}", advice
    if isinstance(error, (AttributeError, TypeError, LookupError, ValueError)) or "APIResponseValidationError" in names:
        found = f"sent a reply{where} that cannot be read ({type(error).__name__})"
        return "protocol", found, "check that the address is that of the model's API"
    return ("permanent", f"failed with {type(error).__name__}: {_excerpt(str(error))}", "see the log for the request")


def _judge_status(error: BaseException, status: int, spec: BackendSpec, where: str) -> tuple[Kind, str, str]:
    message = _server_words(error)
    because = f" ({message})" if message else ""
    if status in (401, 403):
        return ("permanent", f"refused the key{where} (HTTP {status})", f"set {key_variable(spec)} to a valid key")
    if status == 404:
        advice = "check the model's name, and that the address is that of the API (it usually ends in /v1)"
        return (
            "permanent",
            f"does not know the model or the path{where} (HTTP 404{': ' + message if message else ''})",
            advice,
        )
    if status == 429 and getattr(error, "code", None) == "insufficient_quota":
        return ("permanent", f"has no quota left{where} (HTTP 429)", "raise the quota or choose another backend")
    if status == 429:
        return (
            "transient",
            f"is limiting the rate of requests{where} (HTTP 429)",
            "wait a while or use fewer agents on it",
        )
    if status in (408, 409, 425) or status >= 500:
        return (
            "transient",
            f"has a server fault{where} (HTTP {status}{': ' + message if message else ''})",
            "try again later",
        )
    return (
        "permanent",
        f"refused the request{where} (HTTP {status}){because}",
        "correct the spec or choose another model",
    )


def _server_words(error: BaseException) -> str:
    """The server's message about an error, in a few words on one line."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        body = inner.get("message") if isinstance(inner, Mapping) else inner
    return _excerpt(body) if isinstance(body, str) and "<" not in body else ""


def _excerpt(text: str) -> str:
    return one_line(text.strip().rstrip("."), 160)


def _retry_after(error: BaseException) -> float | None:
    """Seconds the server asked to wait (Retry-After as seconds or date, RFC 9110 10.2.3), or None."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return None
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds == seconds else None

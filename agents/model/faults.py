"""Faults of model servers, classified and put into one sentence for the user."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from learning_signal.agents.human.absent import Absent
from learning_signal.agents.model.dialect.error_body import ErrorBody, read_error_body
from learning_signal.agents.model.dialect.window import CutPrompt
from learning_signal.agents.model.errors import BackendError, Kind, LateReply
from learning_signal.agents.model.keys import key_variable
from learning_signal.agents.model.providers.registry import EMBEDDED, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.model.replies import EmptyReply, EndlessCall
from learning_signal.agents.model.text import one_line
from learning_signal.agents.model.transport import RefusedRedirect, proxy_of
from learning_signal.agents.model.wire import RefusedAnswer, TruncatedReply, UnreadableReply

_MALFORMED = re.compile(
    r"pars\w* .{0,20}tool call|tool call.{0,40} pars|failed to parse|failed to call a function|tool_use_failed", re.I
)
"""What servers say (Ollama, llama.cpp, vLLM, Groq) where the model wrote a call that they cannot read."""
_LASTING = re.compile(
    r"--jinja|(?:chat|jinja) template|roles? must alternate|unexpected role|after role", re.IGNORECASE
)
"""What a server says with status 500 that will not pass: its chat template refuses the conversation."""
_NO_TOOLS = re.compile(r"not support (?:the use of )?(?:tool|function)", re.IGNORECASE)
"""What a server says of a model that cannot call tools."""


def classify(error: BaseException, spec: BackendSpec, secrets: Iterable[str] = ()) -> BackendError:
    """``error``, raised by a model client, as a BackendError about ``spec``; no key survives in it."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, Absent):
        return BackendError("permanent", str(error))
    said = read_error_body(getattr(error, "body", None))
    kind, found, advice = _judge(error, spec, said)
    sentence = mask(" ".join(f"Backend '{spec.text}' {found}; {advice}.".split()), secrets)
    asked = _retry_after(error)
    status = getattr(error, "status_code", None)
    return BackendError(kind, sentence, said.wait if asked is None else asked, status, mask(said.words, secrets))


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without the given secrets and without what looks like a key."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[redacted]")
    return re.sub(r"\b(sk-|Bearer\s+)[\w\-.*]{6,}", "[redacted]", text)


def _judge(error: BaseException, spec: BackendSpec, said: ErrorBody) -> tuple[Kind, str, str]:
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
        return _judge_status(error, status, spec, where, said)
    if isinstance(error, TruncatedReply) or "LengthFinishReasonError" in names:
        return "truncated", "cut its reply at the token limit", "raise it with '?max_tokens=N'"
    if isinstance(error, CutPrompt):
        return (
            "permanent",
            f"{error}{where}: its context window is too small, and it cut the prompt",
            _wider(spec, error),
        )
    if isinstance(error, RefusedAnswer):
        return "permanent", f"declines to answer ({error})", "choose another model for this agent"
    if isinstance(error, EmptyReply):
        return "empty", "replied with neither text nor a tool call", "try again or choose another model"
    if isinstance(error, EndlessCall):
        return "malformed", f"wrote {error}", "choose a model that calls tools, or limit its replies by '?max_tokens=N'"
    if isinstance(error, RefusedRedirect):
        found = f"is redirected{where} to {error}, expected an answer, and nothing was sent there"
        return "permanent", found, "write that address into the spec if it is the server you mean"
    if isinstance(error, UnreadableReply):
        advice = "check that the address is that of the model's API (it usually ends in /v1)"
        return "protocol", f"answered{where} with {error}", advice
    if isinstance(error, LateReply):
        found = f"did not answer in time{where} ({error})"
        return "transient", found, f"wait, or allow more with '?{error.limit}=SECONDS'"
    if isinstance(error, TimeoutError) or names & {"APITimeoutError", "TimeoutException"}:
        return "transient", f"did not answer in time{where}", "wait, or allow more with '?timeout=SECONDS'"
    if untrusted := _untrusted(error):
        found = f"shows a certificate{where} that is not trusted ({untrusted.verify_message})"
        return "permanent", found, "name the file of its authority in SSL_CERT_FILE if it is the server you mean"
    if isinstance(error, OSError) or names & {"APIConnectionError", "TransportError"}:
        advice = "start the server, or correct the address or the network"
        if spec.provider == "ollama":
            advice = f"start it with 'ollama serve' and fetch the model with 'ollama pull {spec.model}'"
        address = spec.base_url or entry_of(spec).address
        if address and (variable := proxy_of(address)):
            advice = f"correct the proxy that {variable} names, or name the model's host in NO_PROXY"
            where += f" through the proxy of {variable}"
        return "transient", f"cannot be reached{where}", advice
    if (
        isinstance(error, (AttributeError, TypeError, LookupError, ValueError, RecursionError))
        or "APIResponseValidationError" in names
    ):
        found = f"sent a reply{where} that cannot be read ({type(error).__name__})"
        return "protocol", found, "check that the address is that of the model's API"
    return ("permanent", f"failed with {type(error).__name__}: {_excerpt(str(error))}", "see the log for the request")


def _untrusted(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The failed check of a certificate behind ``error``; None where that is no reason."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, ssl.SSLCertVerificationError):
        behind = behind.__cause__ or behind.__context__
    return behind


def _wider(spec: BackendSpec, cut: CutPrompt) -> str:
    if spec.provider == "ollama":
        return f"give it a larger one with '?context={cut.needed}'"
    return (
        f"give it a context of {cut.needed} tokens (llama.cpp: -c, vLLM: --max-model-len, Ollama: "
        "OLLAMA_CONTEXT_LENGTH or num_ctx)"
    )


def _judge_status(
    error: BaseException, status: int, spec: BackendSpec, where: str, said: ErrorBody
) -> tuple[Kind, str, str]:
    message = _excerpt(said.words)
    if status in (400, 422, 500) and _MALFORMED.search(f"{message} {getattr(error, 'code', None) or ''}"):
        return "malformed", f"wrote a call that its server cannot read ({message})", "choose a model that calls tools"
    because = f" ({message})" if message else ""
    if status in (401, 403):
        variable = key_variable(spec)
        advice = f"set {variable} to a valid key" if variable else "name the variable of its key, '?api_key_env=NAME'"
        return ("permanent", f"refused the key{where} (HTTP {status})", advice)
    if status == 404:
        advice = "check the model's name, and that the address is that of the API (it usually ends in /v1)"
        if spec.provider == "ollama":
            advice = f"fetch it with 'ollama pull {spec.model}', or check the address (http://host:11434)"
        return (
            "permanent",
            f"does not know the model or the path{where} (HTTP 404{': ' + message if message else ''})",
            advice,
        )
    if status == 429 and getattr(error, "code", None) == "insufficient_quota":
        return ("permanent", f"has no quota left{where} (HTTP 429)", "raise the quota or choose another backend")
    if status == 429 and said.daily:
        found = f"has used up its quota of the day{where} (HTTP 429: {message})"
        return "permanent", found, "resume when it is renewed, or choose another backend"
    if status == 429:
        return (
            "transient",
            f"is limiting the rate of requests{where} (HTTP 429{': ' + message if message else ''})",
            "wait a while or use fewer agents on it",
        )
    if status >= 500 and (lasting := _LASTING.search(said.words)):
        advice = "choose a model whose chat template takes tool calls"
        advice = "start the server with --jinja" if "jinja" in lasting[0].lower() else advice
        return "permanent", f"cannot take the request{where} (HTTP {status}: {message})", advice
    if status in (408, 409, 425) or status >= 500:
        return (
            "transient",
            f"has a server fault{where} (HTTP {status}{': ' + message if message else ''})",
            "try again later",
        )
    return (
        "permanent",
        f"refused the request{where} (HTTP {status}){because}",
        "choose a model that calls tools" if _NO_TOOLS.search(message) else "correct the spec or choose another model",
    )


def _excerpt(text: str) -> str:
    return one_line(text.strip().rstrip("."), 300)


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

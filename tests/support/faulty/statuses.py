"""Faults that servers name by an HTTP status, in all forms that their bodies take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.support.faulty.fault import Fault, Turn
from tests.support.scripted_server import Reply


def status(code: int, words: str, kind: str = "api_error", **headers: str):
    """Answers with a status."""
    return lambda turn: turn.refuses(code, words, kind, **headers)


def lasting() -> Iterator[Fault]:
    """What no retry helps against: the session pauses at once, with the server's words."""
    cases = {
        "400 a request it does not take": (400, "messages.3: unexpected role", "refused the request"),
        "401 a wrong key": (401, "invalid x-api-key", "refused the key"),
        "402 no money left": (402, "Insufficient Balance", "Insufficient Balance"),
        "403 a key without rights": (403, "permission denied", "refused the key"),
        "404 no such model": (404, "model 'm' not found", "does not know the model"),
        "405 no such method": (405, "method not allowed", "HTTP 405"),
        "413 too large": (413, "Request exceeds the maximum size", "HTTP 413"),
        "418 a status of its own": (418, "I'm a teapot", "HTTP 418"),
        "422 a field it does not know": (422, "Extra inputs are not permitted: parallel_tool_calls", "HTTP 422"),
        "400 a model without tools": (400, "m does not support tools", "choose a model that calls tools"),
        "400 a prompt that is too long": (400, "prompt is too long: 210000 tokens > 200000 maximum", "210000 tokens"),
        "500 that lasts: --jinja": (500, "tools param requires --jinja flag", "start the server with --jinja"),
        "500 that lasts: a template": (500, "Conversation roles must alternate user/assistant", "roles must alternate"),
        "429 a quota of the day": (429, "Quota exceeded: GenerateRequestsPerDay", "quota of the day"),
        "404 a page of HTML": (404, "<html>nginx</html>", "does not know the model"),
    }
    for name, (code, words, says) in cases.items():
        yield Fault(name, status(code, words), "pauses", says)


def passing() -> Iterator[Fault]:
    """What passes: one such answer costs a wait, and for ever they end in a pause."""
    cases = {
        "408 a timeout of its own": (408, "Request timeout"),
        "409 a conflict": (409, "conflict"),
        "425 too early": (425, "too early"),
        "429 too many requests": (429, "Rate limit reached"),
        "500 a fault": (500, "Internal server error"),
        "502 a bad gateway": (502, "<html><h1>502 Bad Gateway</h1></html>"),
        "503 a model that loads": (503, "Loading model"),
        "504 a gateway's timeout": (504, "upstream timed out"),
        "529 overloaded": (529, "Overloaded"),
    }
    for name, (code, words) in cases.items():
        yield Fault(name, status(code, words), "recovers", times=2)
    for name in ("429 too many requests", "500 a fault", "529 overloaded"):
        code, words = cases[name]
        yield Fault(f"{name}, for ever", status(code, words), "pauses", "given up after 5 attempts", times=None)


def waits() -> Iterator[Fault]:
    """Waits that a server asks for, wherever it says so."""

    def later(turn: Turn) -> Reply:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
        return turn.refuses(429, "slow down", retry_after=date)

    body = {"error": {"code": 429, "message": "Resource exhausted", "details": [{"retryDelay": "45.83s"}]}}
    yield Fault("429 Retry-After in seconds", status(429, "slow down", retry_after="20"), "recovers")
    yield Fault("429 Retry-After as a date", later, "recovers")
    yield Fault("429 Retry-After that is none", status(429, "slow down", retry_after="soon"), "recovers")
    yield Fault("429 Retry-After below 0", status(429, "slow down", retry_after="-5"), "recovers")
    for value in ("3600", "1e400"):
        yield Fault(f"429 Retry-After {value}", status(429, "slow down", retry_after=value), "pauses", "asks to wait")
    yield Fault("429 a wait in the body", lambda turn: Reply(429, [body]), "recovers")
    yield Fault("429 a wait in words", status(429, "Please try again in 1m5.5s."), "recovers")
    yield Fault("429 a wait of hours in words", status(429, "try again in 23h59m"), "pauses", "asks to wait")


def bodies() -> Iterator[Fault]:
    """Errors whose bodies have another shape."""

    def with_body(raw: bytes, **headers: str) -> Reply:
        return Reply(500, raw=raw, headers={name.replace("_", "-"): value for name, value in headers.items()})

    shapes = {
        "an error body that is a list": b'[{"error": {"message": "no memory left"}}]',
        "an error body that is text": b"no memory left",
        "an error body that is empty": b"",
        "an error body that is null": b"null",
        "an error body that is a number": b"500",
        "an error body of 50,000 brackets": b"[" * 50_000 + b"]" * 50_000,
        "an error body with escape sequences": b'{"error": {"message": "\\u001b]0;x\\u0007\\u001b[31mno"}}',
        "an error body in Latin-1": '{"error": {"message": "Schl\xfcssel"}}'.encode("latin-1"),
    }
    for name, raw in shapes.items():
        yield Fault(f"{name}, for ever", lambda turn, raw=raw: with_body(raw), "pauses", "HTTP 500", times=None)
    yield Fault(
        "an error body of 30 MB", lambda turn: with_body(b" " * 30_000_000), "pauses", "more than 8 MB", times=None
    )
    yield Fault(
        "an error that repeats the key",
        lambda turn: turn.refuses(400, f"the key {turn.key} is not known, headers {turn.request.headers}"),
        "pauses",
        "[redacted]",
    )
    yield Fault("an error of many lines", status(400, "line one\n\n\tline two\r\nline three"), "pauses", "line three")
    yield Fault("an error of 1 MB", status(400, "no " * 350_000), "pauses", "no no no")

"""Faults of a body that comes with status 200."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from tests.support.faulty.fault import Fault, Turn
from tests.support.scripted_server import Reply

Body = bytes | Callable[[Turn], bytes]
PACKED = {"content-encoding": "gzip"}


def raw(body: Body, content_type: str = "application/json", **headers: str) -> Callable[[Turn], Reply]:
    """Answers with these bytes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def does(turn: Turn) -> Reply:
        made = body if isinstance(body, bytes) else body(turn)
        return Reply(raw=made, content_type=content_type, headers=named)

    return does


@cache
def bomb() -> bytes:
    """3 MB of gzip that unpack to 3 GB, as one stream: a block of zeros that is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * 192 + b"\x03\0" + bytes(8)


def unreadable() -> Iterator[Fault]:
    """Bodies that are no reply: asked again once, and in the end a pause that says what came."""
    cases: dict[str, tuple[Callable[[Turn], Reply], str]] = {
        "a page of HTML": (raw(b"<html><h1>Welcome</h1></html>", "text/html"), ""),
        "an empty body": (raw(b""), ""),
        "an object without anything": (raw(b"{}"), ""),
        "a list": (raw(b"[1, 2]"), ""),
        "null": (raw(b"null"), ""),
        "a number": (raw(b"7"), ""),
        "text in quotes": (raw(b'"Welcome"'), ""),
        "half of the JSON": (raw(lambda turn: turn.bytes()[:-20]), ""),
        "two replies in one": (raw(lambda turn: turn.bytes() * 2), ""),
        "a stream of events": (raw(lambda turn: b"data: " + turn.bytes() + b"\n\n", "text/event-stream"), ""),
        "50,000 brackets": (raw(b"[" * 50_000 + b"]" * 50_000), ""),
        "bytes that are no UTF-8": (raw(lambda turn: turn.bytes().replace(b'"served"', b'"\xff\xfe"')), ""),
        "an error with 200": (lambda turn: Reply(body=turn.protocol.error("out of memory", "api_error")), "out of"),
        "30 MB": (raw(b" " * 30_000_000), "more than 8 MB"),
        "a gzip bomb of 3 GB": (lambda turn: Reply(raw=bomb(), headers=PACKED), "more than 8 MB"),
        "gzip that is none": (raw(b"{}", content_encoding="gzip"), "not the gzip data"),
        "brotli": (raw(b"{}", content_encoding="br"), "compressed as 'br'"),
    }
    for name, (does, says) in cases.items():
        yield Fault(name, does, "recovers")
        yield Fault(f"{name}, for ever", does, "pauses", says, times=None)


def without_parts() -> Iterator[Fault]:
    """Replies in which a part is missing or null."""

    def emptied(**of: tuple[str, object]) -> Callable[[Turn], Reply]:
        def does(turn: Turn) -> Reply:
            field, value = of[turn.protocol.name]
            return Reply(body=turn.protocol.reply(turn.good) | {field: value})

        return does

    message = {"index": 0, "message": None, "finish_reason": "stop"}
    nothing = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"}
    failed = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "error"}
    cases = {
        "no choices": emptied(openai=("choices", []), anthropic=("content", []), ollama=("message", {})),
        "null for choices": emptied(openai=("choices", None), anthropic=("content", None), ollama=("message", None)),
        "a null message": emptied(openai=("choices", [message]), anthropic=("content", [None]), ollama=("message", 7)),
        "a message of nothing": emptied(
            openai=("choices", [nothing]), anthropic=("content", [{"type": "text", "text": ""}]),
            ollama=("message", {"role": "assistant", "content": None}),
        ),
        "content that is a number": emptied(
            openai=("choices", [nothing | {"message": {"role": "assistant", "content": 7}}]),
            anthropic=("content", [{"type": "text", "text": 7}]), ollama=("message", {"content": 7}),
        ),
    }  # fmt: skip
    for name, does in cases.items():
        yield Fault(name, does, "recovers")
    yield Fault("a reason that says error", emptied(openai=("choices", [failed])), "recovers", protocols=("openai",))


def counts() -> Iterator[Fault]:
    """Counts of tokens that are missing or cannot be: they are estimated."""
    cases = {
        "no usage": None,
        "usage of null": (None, None),
        "usage below 0": (-1_000_000, -7),
        "usage of 2**63": (2**63, 2**63),
        "usage of 1e300": (1e300, 7),
        "usage in words": ("many", "few"),
        "usage that is true": (True, True),
    }
    for name, tokens in cases.items():
        yield Fault(name, lambda turn, tokens=tokens: turn.changed(tokens=tokens), "recovers", times=None, meant=True)
    yield Fault(
        "a prompt that was cut",
        lambda turn: turn.changed(tokens=(1300, 7)),
        "pauses",
        "its context window is too small",
        times=None,
    )


def odd() -> Iterator[Fault]:
    """Bodies that are unusual, and understood."""
    yield Fault(
        "a byte order mark", raw(lambda turn: b"\xef\xbb\xbf" + turn.bytes()), "recovers", times=None, meant=True
    )
    yield Fault(
        "JSON that is called text", raw(lambda turn: turn.bytes(), "text/plain"), "recovers", times=None, meant=True
    )
    yield Fault(
        "gzip",
        raw(lambda turn: gzip.compress(turn.bytes()), content_encoding="gzip"),
        "recovers",
        times=None,
        meant=True,
    )
    yield Fault(
        "white space around it", raw(lambda turn: b"\r\n " + turn.bytes() + b"\n\n"), "recovers", times=None, meant=True
    )

    def further(turn: Turn) -> Reply:
        return Reply(body=turn.protocol.reply(turn.good) | {"error": None, "surprise": {"deep": [1, {"x": None}]}})

    yield Fault("fields that nobody knows", further, "recovers", times=None, meant=True)

    def not_a_number(turn: Turn) -> Reply:
        return Reply(raw=json.dumps(turn.protocol.reply(turn.good) | {"score": float("nan")}).encode())

    yield Fault("a NaN in a field", not_a_number, "recovers", times=None, meant=True)

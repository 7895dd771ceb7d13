"""Faults of a connection: refused, reset, cut, slow, silent, redirected, or with the wrong protocol in it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.faulty.fault import Fault, Turn
from tests.support.scripted_server import Reply

ALERT = b"\x15\x03\x01\x00\x02\x02\x28"
"""What a server that expects TLS answers to plain HTTP."""


def broken() -> Iterator[Fault]:
    """Connections that end too early."""
    cases = {
        "closed without an answer": Reply(drop=True),
        "reset without an answer": Reply(message=b"", then="resets"),
        "closed in the head": Reply(body={}, most=20, then="closes"),
        "closed in the body": Reply(body={"x": "y" * 500}, most=200, then="closes"),
        "reset in the body": Reply(body={"x": "y" * 500}, most=200, then="resets"),
        "TLS on a port of HTTP": Reply(message=ALERT, then="closes"),
        "garbage in place of HTTP": Reply(message=b"\x00\x01SSH-2.0-OpenSSH_9.6\r\n", then="closes"),
        "a length that is too large": Reply(body={}, headers={"content-length": "5000"}, then="closes"),
        "a chunk that is none": Reply(
            message=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n", then="closes"
        ),
        "a head of 1 MB": Reply(body={}, headers={"x-long": "y" * 2**20}, then="closes"),
    }
    for name, reply in cases.items():
        yield Fault(name, lambda turn, reply=reply: reply, "recovers")
        yield Fault(f"{name}, for ever", lambda turn, reply=reply: reply, "pauses", times=None)
    yield Fault("refused", lambda turn: Reply(), "pauses", "cannot be reached", times=None, at="nobody")
    yield Fault("HTTP on a port of TLS", lambda turn: Reply(drop=True), "pauses", times=None, at="https")


def slow() -> Iterator[Fault]:
    """Servers that are silent, or nearly so: the deadline holds."""
    silent = Reply(body={}, delay=10**6)
    cases = {
        "silent before the head": lambda turn: silent,
        "silent in the head": lambda turn: Reply(body={}, most=20, then="hangs"),
        "silent in the body": lambda turn: Reply(body={"x": "y" * 500}, most=200, then="hangs"),
        "a byte in ten seconds": lambda turn: Reply(raw=turn.bytes(), drip=10.0),
        "an error that is silent in its body": lambda turn: Reply(500, {"x": "y" * 500}, most=200, then="hangs"),
    }
    for name, does in cases.items():
        yield Fault(name, does, "recovers", parameters="&timeout=30")
        yield Fault(f"{name}, for ever", does, "pauses", "did not answer in time", times=None)
    yield Fault("100 seconds for an answer", _late, "recovers", times=None, meant=True)


def _late(turn: Turn) -> Reply:
    return Reply(body=turn.protocol.reply(turn.good), delay=100.0)


def redirected() -> Iterator[Fault]:
    """Redirects: not followed, neither with the key nor with the prompt."""

    def to(status: int, location: str):
        return lambda turn: Reply(status, raw=b"", headers={"location": location.format(elsewhere=turn.elsewhere)})

    for status in (301, 302, 307, 308):
        yield Fault(f"{status} to another host", to(status, "{elsewhere}/v1/chat"), "pauses", "is redirected")
    yield Fault("307 on the same host", to(307, "/v2/chat"), "pauses", "is redirected")
    yield Fault("307 to nowhere", to(307, ""), "pauses", "is redirected")
    yield Fault("300 with a page", to(300, "{elsewhere}"), "pauses", "is redirected")

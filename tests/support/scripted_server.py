"""A local HTTP server that speaks, and misspeaks, the OpenAI chat protocol as scripted. Used by the tests only."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Reply:
    """One scripted answer. ``raw`` replaces the JSON body; ``drop`` closes the connection without an answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = "application/json"
    delay: float = 0.0
    """Seconds before the answer."""
    drip: float | None = None
    """Seconds between single bytes of the answer."""
    drop: bool = False
    message: bytes | None = None
    """The whole answer, its head included, in place of one made of the fields above."""
    most: int | None = None
    """Bytes of the answer that are sent before ``then``; None sends all."""
    then: Literal["closes", "resets", "hangs"] | None = None
    """What the connection does after them; None leaves it open for the next request."""


def text(
    content: Any, *, finish: str = "stop", usage: Any = True, model: str = "served-model", **message: Any
) -> Reply:
    """A text reply."""
    return _completion({"role": "assistant", "content": content, **message}, finish, usage, model)


def call(
    name: str, arguments: Any = "{}", *, call_id: Any = "call_1", content: str | None = None, **options: Any
) -> Reply:
    """A reply with one tool call; ``arguments`` that are not text are sent as they are."""
    return calls([(call_id, name, arguments)], content=content, **options)


def calls(
    entries: list[tuple[Any, Any, Any]],
    *,
    content: str | None = None,
    finish: str = "tool_calls",
    usage: Any = True,
    model: str = "served-model",
    further: dict[str, Any] | None = None,
    **message: Any,
) -> Reply:
    """A reply with several tool calls: (id, name, arguments) each; an id of None is left out.

    The first call has the fields ``further`` too, and the message has those in ``message``.
    """
    sent: list[dict[str, Any]] = []
    for call_id, name, arguments in entries:
        entry = {"type": "function", "function": {"name": name, "arguments": arguments}}
        sent.append(entry if call_id is None else {"id": call_id, **entry})
    if further:
        sent[0] |= further
    return _completion({"role": "assistant", "content": content, "tool_calls": sent, **message}, finish, usage, model)


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI sends it; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"message": message, "code": code}}, headers=named)


def _completion(message: dict[str, Any], finish: str, usage: Any, model: str) -> Reply:
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if usage is True:
        body["usage"] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    elif usage is not None:
        body["usage"] = usage
    return Reply(body=body)


@dataclass
class Request:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


Strict = Callable[[Request], Reply | Awaitable[Reply]]
"""A reply that depends on the request: how a strict server refuses one."""


class ScriptedServer:
    """Answers each request with the next scripted reply; the last one is repeated."""

    def __init__(self, *script: Reply | Strict):
        self.script = list(script)
        self.requests: list[Request] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it is closed."""
        try:
            while request := await _read(reader):
                self.requests.append(request)
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                made = answer if isinstance(answer, Reply) else answer(request)
                reply = await made if inspect.isawaitable(made) else made
                await asyncio.sleep(reply.delay)
                if reply.drop:
                    break
                await _write(writer, reply)
                if reply.then is not None:
                    await _end(writer, reply.then)
                    break
        except (ConnectionError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def serving(*script: Reply | Strict, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """A running ``ScriptedServer`` on a free local port; with ``tls`` by https."""
    server = ScriptedServer(*script)
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    first = await reader.readline()
    if not first:
        return None
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(first.decode().split()[1], headers, json.loads(body) if body else None)


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    body = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
    headers = {"content-type": reply.content_type, "content-length": str(len(body)), **reply.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode()
    if reply.drip is None:
        writer.write((reply.message or head + body)[: reply.most])
    else:
        writer.write(head)
        for index in range(len(body)):
            writer.write(body[index : index + 1])
            await writer.drain()
            await asyncio.sleep(reply.drip)
    await writer.drain()


async def _end(writer: asyncio.StreamWriter, how: str) -> None:
    """Close, reset or hold a connection after an answer or a part of one."""
    if how == "hangs":
        await asyncio.sleep(10**6)
    if how == "resets":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    else:
        writer.close()
        await writer.wait_closed()

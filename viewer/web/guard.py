"""Who may ask the live page: names of this machine, requests from its own pages, and holders of a token.

The page shows what a log holds, and can answer a session's question. A page elsewhere must be able to do neither
through the browser of the reader: it may not ask under another name (DNS rebinding), send a form (Origin), show this
page in a frame, or load parts of it.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Names of this machine that nobody elsewhere can ask by."""
SAFE = ("GET", "HEAD")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Door:
    """What is asked of a request."""

    token: str
    """Without it nothing is said to a session."""
    to_read: bool
    """Whether the token is needed to read as well."""
    host: str
    """The address that is listened on."""
    port: int

    @property
    def cookie(self) -> str:
        """The cookie that holds the token: cookies are shared by all ports of a host, so its name has the port."""
        return f"learning-signal-{self.port}"

    def is_named(self, host: str) -> bool:
        """Whether the Host of a request is a name of this machine.

        Where every reader needs the token, any numeric address and the machine's own name are: a page elsewhere cannot
        be made to point at a number, and the cookie is not sent under another name.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in LOCAL or name == self.host.lower():
            return True
        return self.to_read and (_is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower()))

    def holds(self, given: str | None) -> bool:
        """Whether this is the token."""
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


class Guard:
    """The application behind the door; ``scope["state"]["may_tell"]`` says whether the token was shown."""

    def __init__(self, inner: Any, door: Door, policy: str) -> None:
        self._inner, self._door, self._policy = inner, door, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it in one sentence."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        guarded = self._guarded(send)
        if not self._door.is_named(headers.get("host", "")):
            await _plain(guarded, 403, f"Ask for this page as http://127.0.0.1:{self._door.port}/.")
            return
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            await _plain(guarded, 403, "Another page asked for a part of this one, expected a link or an own page.")
            return
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        if given is not None and scope["method"] in SAFE:
            await self._let_in(guarded, scope, given)
            return
        holds = any(self._door.holds(each) for each in _tokens(headers, self._door.cookie))
        if self._door.to_read and not holds:
            await _plain(guarded, 401, "This page needs the token that it was started with: open /?token=TOKEN once.")
            return
        if scope["method"] not in SAFE and not self._from_here(headers):
            await _plain(guarded, 403, "This was sent by another page, expected one of this server.")
            return
        scope.setdefault("state", {})["may_tell"] = holds
        await self._inner(scope, receive, guarded)

    async def _let_in(self, send: Send, scope: Scope, given: str) -> None:
        """Take the token out of the address into a cookie that only this server gets."""
        if not self._door.holds(given):
            await _plain(send, 401, "That is not the token of this server: take the address that 'view' printed.")
            return
        query = urlencode([each for each in parse_qsl(scope["query_string"].decode("latin-1")) if each[0] != "token"])
        where = "/" + quote(scope["path"].lstrip("/\\")) + (f"?{query}" if query else "")
        cookie = f"{self._door.cookie}={self._door.token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", where.encode("ascii")), (b"set-cookie", cookie.encode("latin-1"))]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _from_here(self, headers: dict[str, str]) -> bool:
        """Whether a form was sent by one of our own pages; a program without a browser sends no Origin."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin") and "authorization" in headers
        return origin == f"http://{headers.get('host')}"

    def _guarded(self, send: Send) -> Send:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {"Content-Security-Policy": self._policy, **HEADERS}
                added = [(name.lower().encode(), value.encode()) for name, value in own.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        return with_headers


def _tokens(headers: dict[str, str], cookie: str) -> list[str]:
    """What a request shows as its token: in the cookie, or as a bearer's."""
    shown = []
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        found = None
    if found is not None:
        shown.append(found.value)
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        shown.append(bearer.strip())
    return shown


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _plain(send: Send, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})

"""The HTTP below the model clients: redirects are refused, the size of a reply is limited, no proxy to this machine.

The SDKs' own clients follow redirects: a 307 silently hands the whole prompt to another host. They also decompress
whatever a server sends, however large it becomes, and ask the proxy of the environment for a server on this machine.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
import zlib
from typing import Any
from urllib.parse import urljoin, urlsplit

from learning_signal.agents.model.wire import UnreadableReply

MOST_BYTES = 8 * 2**20
"""The largest body of a reply, compressed and decompressed: a hundred times a long answer."""
_PACKED = ("content-encoding", "content-length", "transfer-encoding")


class RefusedRedirect(Exception):
    """The server redirected the request, and it was not sent on. The text says where to."""


_SdkClient: Any = object
"""Stands for the SDK's own class, which ``guarded_client`` puts in its place."""


class _Guarded(_SdkClient):
    """What ``guarded_client`` adds to an SDK's HTTP client."""

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """The response, whole. Raises ``RefusedRedirect``, ``UnreadableReply``, or what the HTTP client raises."""
        response = await super().send(request, stream=True, **{**options, "follow_redirects": False})
        try:
            if 300 <= response.status_code < 400:
                raise RefusedRedirect(_target(response))
            body = await _body(response)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _PACKED]
        return type(response)(
            response.status_code, headers=headers, content=body, request=request, extensions=response.extensions
        )


class UnusableProxy(ValueError):
    """No client can be made with the proxies of the environment. The text is one sentence."""


def guarded_client(base: type, address: str | None = None) -> Any:
    """An HTTP client like ``base`` (the SDK's own class, such as ``openai.DefaultAsyncHttpxClient``), with guards.

    A server on this machine is not reached through a proxy (``address`` is that of the server, None is the provider's).

    Raises:
        UnusableProxy: a proxy that the environment names cannot be used.
    """
    client = type("GuardedHttpClient", (_Guarded, base), {})
    try:
        return client(
            follow_redirects=False,
            headers={"accept-encoding": "gzip"},
            trust_env=address is None or not _on_this_machine(address),
        )
    except Exception as error:
        if not isinstance(error, (ImportError, ValueError)) and type(error).__name__ != "InvalidURL":
            raise
        named = ", ".join(sorted(_proxy_variables())) or "the environment"
        raise UnusableProxy(
            f"{named} names a proxy that cannot be used; a SOCKS proxy needs the package 'socksio' (pip install "
            "socksio), another one an address such as http://host:port; or take the variable away, or name the "
            "model's host in NO_PROXY."
        ) from None


def proxy_of(address: str) -> str | None:
    """The environment variable whose proxy stands between here and ``address``; None where there is none."""
    parts = urlsplit(address)
    if not parts.hostname or _on_this_machine(address) or urllib.request.proxy_bypass(parts.hostname):
        return None
    variables = {name.lower(): name for name in _proxy_variables()}
    return variables.get(f"{parts.scheme}_proxy") or variables.get("all_proxy")


def _proxy_variables() -> list[str]:
    """The environment variables that name a proxy."""
    given = urllib.request.getproxies_environment()
    return [f"{scheme.upper()}_PROXY" for scheme in given if scheme in ("http", "https", "all")]


def _on_this_machine(address: str) -> bool:
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return host.endswith(".localhost")


async def _body(response: Any) -> bytes:
    """The body of ``response``, decompressed; ``UnreadableReply`` if it is too long, broken or not gzip."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UnreadableReply(f"a body compressed as {encoding[:20]!r}")
    decompressor = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk if decompressor is None else decompressor.decompress(chunk, MOST_BYTES + 1 - len(body))
            if len(body) > MOST_BYTES:
                raise UnreadableReply(f"more than {MOST_BYTES // 2**20} MB")
    except zlib.error:
        raise UnreadableReply("a body that is not the gzip data it claims to be") from None
    except Exception as error:
        if type(error).__name__ in ("RemoteProtocolError", "ReadError"):  # of httpx or httpx2, whichever the SDK has
            raise UnreadableReply("a truncated body") from None
        raise
    return bytes(body)


def _target(response: Any) -> str:
    """Host and port that a redirect names, in words."""
    location = response.headers.get("location", "")
    try:
        parts = urlsplit(urljoin(str(response.request.url), location))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not location or not re.fullmatch(r"[a-z0-9_.:-]{1,253}", host):
        return "an address that cannot be read"
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")

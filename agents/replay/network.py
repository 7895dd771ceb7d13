"""No network: while it holds, whatever in this process wants to reach an address is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_REFUSED = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "socket.getnameinfo",
        "socket.sendmsg",
        "socket.sendto",
    }
)
"""What Python tells its audit hooks of sockets, whichever library uses them; a pair of connected ones is no network."""


class NoNetwork(OSError):
    """Something wanted to reach an address while there is no network."""


class _Hook:
    """Python takes no audit hook back, so one is added at most, and it refuses while anybody holds it."""

    def __init__(self) -> None:
        self.added = False
        self.holders = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.holders and event in _REFUSED:
            raise NoNetwork(f"Found {event} in a replay, expected no use of the network: this is a bug, report it.")


_HOOK = _Hook()


@contextmanager
def no_network() -> Iterator[None]:
    """In the whole process, until the block ends: whatever connects, sends, listens or resolves a name is refused."""
    if not _HOOK.added:
        sys.addaudithook(_HOOK)
        _HOOK.added = True
    _HOOK.holders += 1
    try:
        yield
    finally:
        _HOOK.holders -= 1

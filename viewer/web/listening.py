"""Where a server listens."""

from __future__ import annotations

import socket

WAITING = 100
"""Connections that may wait to be answered."""


class NotServed(Exception):
    """A log cannot be served so; one sentence."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on the address: whoever asks before the server runs, waits.

    Raises:
        NotServed: the port or the address cannot be used.
    """
    if not 0 <= port < 2**16:  # getaddrinfo would take the rest of it
        raise NotServed(f"Found --port {port}, expected 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise NotServed(f"The address {host}:{port} cannot be used ({error}), expected one of this machine.") from error
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
        taken.listen(WAITING)
    except (OSError, OverflowError) as error:
        taken.close()
        raise NotServed(f"The port {port} cannot be used ({error}), expected a free one: --port 0.") from error
    return taken

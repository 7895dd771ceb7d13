"""Serve the live page until Ctrl-C."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from learning_signal.viewer.web.guard import LOCAL, Door
from learning_signal.viewer.web.listening import NotServed, listening

if TYPE_CHECKING:  # loads the server
    from learning_signal.viewer.web.site import Drawings

SHORTEST_TOKEN = 16
"""Characters of a token of one's own."""


def serve(
    ledger: Path, drawings: Drawings, host: str, port: int, auth_token: str | None, tell: Callable[[str], None]
) -> None:
    """Serve a log; ``tell`` is given the address with the token, as soon as it can be opened.

    Raises:
        NotServed: another address than this machine's own is asked for without a token, or one that is too short;
            the port or the address cannot be used.
    """
    refuse_open_doors(host, auth_token)
    with closing(listening(host, port)) as taken:
        import uvicorn

        from learning_signal.viewer.web.site import site

        number = taken.getsockname()[1]
        token = auth_token or secrets.token_urlsafe(24)
        door = Door(token, to_read=auth_token is not None, host=host, port=number)
        application = site(ledger, door, drawings)
        told = f"[{host}]" if ":" in host else host
        tell(f"http://{told}:{number}/" + ("" if auth_token else f"?token={token}"))
        settings = uvicorn.Config(
            application,
            log_level="critical",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(settings).run(sockets=[taken])


def refuse_open_doors(host: str, auth_token: str | None) -> None:
    """``NotServed`` where others could read the log without a token, or could guess it."""
    if auth_token is None and host not in LOCAL:
        raise NotServed(
            f"Found --host {host} without --auth-token, expected a token where other machines can ask: give one of at "
            f"least {SHORTEST_TOKEN} characters. The page is not encrypted: a tunnel (ssh -L) is the better way."
        )
    if auth_token is not None and not re.fullmatch(f"[A-Za-z0-9_-]{{{SHORTEST_TOKEN},}}", auth_token):
        raise NotServed(
            f"Found an --auth-token of {len(auth_token)} characters, expected at least {SHORTEST_TOKEN}, of "
            "letters, digits, '-' and '_'."
        )

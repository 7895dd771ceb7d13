"""The life of a session's row: begin, resume, heartbeat, end; its wall time summed over interruptions."""

from __future__ import annotations

import os
import secrets
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from ledger.writer import Ledger

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: an id is also read aloud and typed


class SessionClock:
    """The wall time of the sessions this process runs."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, float]] = {}

    def start(self, session_id: str, seconds_before: float) -> None:
        """Count on from ``seconds_before``."""
        self._started[session_id] = (time.monotonic(), seconds_before)

    def seconds(self, session_id: str) -> float | None:
        """Seconds the session has run in all, None when this process does not run it."""
        if session_id not in self._started:
            return None
        started, before = self._started[session_id]
        return before + time.monotonic() - started


def now() -> str:
    """The time as UTC ISO 8601 text, always equally long, so that texts sort like times."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_session_id() -> str:
    """A short id that sorts by time, e.g. ``20261122-154501-k3f``."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(3))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def begin_session(
    ledger: Ledger,
    *,
    task: str,
    algorithm: str,
    seed: int,
    config: Any,
    code_version: str,
    kind: str = "run",
    id: str | None = None,
) -> str:
    """Add a running session of this process and return its id (a new one when ``id`` is None)."""
    session_id = new_session_id() if id is None else id
    at = now()
    ledger.add(
        "sessions",
        id=session_id,
        kind=kind,
        status="running",
        task=task,
        algorithm=algorithm,
        seed=seed,
        config=config,
        code_version=code_version,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=at,
        heartbeat_at=at,
    )
    ledger.clock.start(session_id, 0.0)
    return session_id


def resume_session(ledger: Ledger, session_id: str, code_version: str) -> None:
    """Mark a session as running again, in this process."""
    row = ledger.row("sessions", session_id)
    if row is None:
        raise LedgerError(
            f"The ledger {ledger.path} has no session {session_id}; list the sessions and choose one."
        )
    ledger.complete(
        "sessions",
        session_id,
        status="running",
        stop_reason=None,
        ended_at=None,
        code_version=code_version,
        host=socket.gethostname(),
        pid=os.getpid(),
        heartbeat_at=now(),
    )
    ledger.clock.start(session_id, row["wall_seconds"])


def heartbeat(ledger: Ledger, session_id: str) -> None:
    """Write the time and the wall seconds so far."""
    ledger.complete("sessions", session_id, heartbeat_at=now(), **_wall(ledger, session_id))


def end_session(ledger: Ledger, session_id: str, status: str, reason: str | None) -> None:
    """Write the final status, why, when, and the wall seconds."""
    at = now()
    ledger.complete(
        "sessions",
        session_id,
        status=status,
        stop_reason=reason,
        heartbeat_at=at,
        ended_at=at,
        **_wall(ledger, session_id),
    )


def _wall(ledger: Ledger, session_id: str) -> dict[str, float]:
    seconds = ledger.clock.seconds(session_id)
    return {} if seconds is None else {"wall_seconds": seconds}

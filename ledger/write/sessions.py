"""The life of a session's row: begin, resume, heartbeat, end; its wall time summed over interruptions."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from learning_signal.ledger.errors import LedgerError, SessionTaken
from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.origin import remember

if TYPE_CHECKING:
    from learning_signal.ledger.write.rows import RowWriter
    from learning_signal.ledger.write.writer import Ledger

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: an id is also read aloud and typed

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{3}")
ID_IN_SQL = "GLOB '" + "-".join(("[0-9]" * 8, "[0-9]" * 6, "[a-z0-9]" * 3)) + "'"
"""The same as a condition on a column."""


class _Run(NamedTuple):
    """One session in the hands of this ledger."""

    token: str
    started: float
    seconds_before: float


class SessionClock:
    """The sessions a ledger began or resumed: the token of each, and its wall time."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def start(self, session_id: str, seconds_before: float, token: str) -> None:
        """Count on from ``seconds_before``; ``token`` is what the session's row holds while it is ours."""
        self._runs[session_id] = _Run(token, time.monotonic(), seconds_before)

    def seconds(self, session_id: str) -> float | None:
        """Seconds the session has run in all, None when this process does not run it."""
        run = self._runs.get(session_id)
        return None if run is None else run.seconds_before + time.monotonic() - run.started

    def runs(self) -> dict[str, _Run]:
        """The sessions in hand, by id."""
        return dict(self._runs)

    def restore(self, runs: dict[str, _Run]) -> None:
        """Go back to what ``runs`` returned: the transaction since then was undone."""
        self._runs = dict(runs)


def refuse_if_taken(ledger: RowWriter) -> None:
    """Raise ``SessionTaken`` when another process has resumed a session of this ledger.

    To be called inside a transaction: until its end nobody can take the session over.
    """
    for session_id, run in ledger.clock.runs().items():
        row = ledger.row("sessions", session_id)
        if row["run_token"] != run.token:
            raise SessionTaken(
                f"Session {session_id} was taken over by process {row['pid']} on {row['host']}; this process stops."
            )


def now() -> str:
    """The time as UTC ISO 8601 text, always equally long, so that texts sort like times."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_session_id() -> str:
    """A short id that sorts by time, e.g. ``20261122-154501-k3f``."""
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(3))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def is_session_id(text: str) -> bool:
    """Whether ``text`` is an id as `new_session_id` makes them: names of folders and parts of commands come from it."""
    return _ID.fullmatch(text) is not None


def refuse_strange_id(session_id: str, path: Path) -> None:
    """Raise ``LedgerError`` where the session in the ledger at ``path`` has an id that this program does not write."""
    if not is_session_id(session_id):
        shown = session_id if len(session_id) <= 60 else session_id[:57] + "..."
        raise LedgerError(
            f"A session of the ledger {path} has the id {shown!r}, expected one such as 20261122-154501-k3f, as this "
            "program writes them: choose another session ('log list' lists them)."
        )


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
    """Add a running session of this process and return its id (a new one when ``id`` is None).

    Outside of the ledger it is noted as this user's, see ``ledger.origin``.
    """
    session_id = new_session_id() if id is None else id
    refuse_strange_id(session_id, ledger.path)
    at, token = now(), _new_token()
    with ledger.transaction("begin session"):
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
            run_token=token,
            started_at=at,
            heartbeat_at=at,
        )
        ledger.clock.start(session_id, 0.0, token)
        remember(ledger.rows, session_id)
    return session_id


def resume_session(ledger: Ledger, session_id: str, code_version: str) -> None:
    """Mark a session as running again, in this process, and what it left pending as interrupted.

    All in one transaction: of two processes that try, one wins and the other is told so.

    Raises:
        LedgerError: there is no such session, it is done, its process lives, or other code trained it.
    """
    with ledger.transaction("resume session"):
        row = ledger.row("sessions", session_id)
        _refuse_to_resume(ledger, session_id, row, code_version)
        token = _new_token()
        ledger.complete(
            "sessions",
            session_id,
            status="running",
            stop_reason=None,
            ended_at=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            run_token=token,
            heartbeat_at=now(),
        )
        ledger.clock.start(session_id, row["wall_seconds"], token)
        interrupt_pending(ledger, session_id)


def _refuse_to_resume(ledger: Ledger, session_id: str, row: dict[str, Any] | None, code_version: str) -> None:
    if row is None:
        raise LedgerError(f"The ledger {ledger.path} has no session {session_id}; list the sessions and choose one.")
    if row["status"] == "done":
        raise LedgerError(f"Session {session_id} is done: read it with 'log show {session_id}', or start a new one.")
    host, pid = row["host"], row["pid"]
    ours = (host, pid) == (socket.gethostname(), os.getpid())
    if row["status"] == "running" and not ours and process_lives(host, pid, row["heartbeat_at"]):
        raise LedgerError(
            f"Session {session_id} is being run by process {pid}: wait for it or stop it before a resume."
        )
    if row["code_version"] != code_version:
        raise LedgerError(
            f"Session {session_id} was trained by code version {row['code_version']}, "
            f"this is {code_version}: its branches would not be comparable; "
            "return to that version, or start a new session."
        )


def interrupt_pending(ledger: Ledger, session_id: str) -> int:
    """Mark what a killed process left pending as interrupted, segments excepted; return how many rows."""
    count = 0
    with ledger.transaction("interrupt pending"):
        for table, key in (("llm_calls", "id"), ("tool_calls", "id"), ("events", "seq")):
            for row in ledger.find(table, session_id=session_id, status="pending"):
                ledger.complete(table, row[key], status="interrupted")
                count += 1
    return count


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


def _new_token() -> str:
    return secrets.token_hex(16)

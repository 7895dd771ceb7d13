"""The life of a session's row: begin, resume, heartbeat, end; its wall time summed over interruptions."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any, Literal

from learning_signal.ledger.canonical import canonical_json
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.ids import new_session_id, refuse_strange_id
from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.origin import remember
from learning_signal.ledger.questions import QUESTION
from learning_signal.ledger.write.clock import now
from learning_signal.ledger.write.rows import RowWriter


class SessionWriter(RowWriter):
    """Writes rows, and begins, resumes and ends the sessions that they belong to."""

    def begin_session(
        self,
        *,
        task: str,
        algorithm: str,
        seed: int,
        config: Any,
        code_version: str,
        kind: str = "run",
        gate_mode: str | None = None,
        budget: Mapping[str, float] | None = None,
        id: str | None = None,
        ours: bool = True,
    ) -> str:
        """Add a running session of this process and return its id (a new one when ``id`` is None).

        ``gate_mode`` says how confirmations are judged, ``budget`` holds the limits of the session by name.

        Outside of the ledger it is noted as this user's, see ``ledger.origin``; unless ``ours`` is False, for one whose
        configuration comes from a log.
        """
        session_id = new_session_id() if id is None else id
        refuse_strange_id(session_id, self.path)
        at, token = now(), _new_token()
        with self.transaction("begin session"):
            self.add(
                "sessions",
                id=session_id,
                kind=kind,
                status="running",
                task=task,
                algorithm=algorithm,
                seed=seed,
                config=config,
                code_version=code_version,
                gate_mode=gate_mode,
                budget=canonical_json(budget) if budget else None,
                host=socket.gethostname(),
                pid=os.getpid(),
                run_token=token,
                started_at=at,
                heartbeat_at=at,
                cut_off=0,
                cut_off_unknown=0,
            )
            self.clock.start(session_id, 0.0, token)
            if ours:
                remember(self.rows, session_id)
        return session_id

    def resume_session(self, session_id: str, code_version: str) -> bool:
        """Mark a session as running again, in this process, and what it left pending as interrupted.

        All in one transaction: of two processes that try, one succeeds and the other gets ``LedgerError``.

        Returns whether the process before was killed: then what it had in flight is not counted.

        Raises:
            LedgerError: there is no such session, it is done, its process lives, or other code trained it.
        """
        with self.transaction("resume session"):
            row = self.row("sessions", session_id)
            self._refuse_to_resume(session_id, row, code_version)
            token = _new_token()
            self.complete(
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
            self.clock.start(session_id, self.required_row("sessions", session_id)["wall_seconds"], token)
            self.interrupt_pending(session_id)
        return row is not None and row["status"] == "running"

    def _refuse_to_resume(self, session_id: str, row: dict[str, Any] | None, code_version: str) -> None:
        if row is None:
            raise LedgerError(f"The ledger {self.path} has no session {session_id}; list the sessions and choose one.")
        if row["status"] == "done":
            raise LedgerError(
                f"Session {session_id} is done: read it with 'log show {session_id}', or start a new one."
            )
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

    def set_budget(self, session_id: str, limits: Mapping[str, float]) -> None:
        """Write what the session may use at most from now on, by name."""
        self.complete("sessions", session_id, budget=canonical_json(limits) if limits else None)

    def add_lost(self, session_id: str, purpose: Literal["main", "twin"], env_steps: int) -> None:
        """Count env steps that were trained for the main run or the twin and lost with their worker."""
        with self.transaction("lost"):
            row = self.row("sessions", session_id)
            if row is None:
                raise LedgerError(f"The ledger {self.path} has no session {session_id}; give one that it has.")
            column = f"lost_{purpose}"
            self.complete("sessions", session_id, **{column: row[column] + env_steps})

    def add_cut_off(self, session_id: str, env_steps: int, unknown: int) -> None:
        """Count env steps that were trained in vain, and segments of which nobody knows how many they were."""
        with self.transaction("cut-off"):
            row = self.required_row("sessions", session_id)
            counts = {"cut_off": env_steps, "cut_off_unknown": unknown}
            self.complete("sessions", session_id, **{name: (row[name] or 0) + more for name, more in counts.items()})

    def interrupt_pending(self, session_id: str) -> int:
        """Mark what a killed process left pending as interrupted; return how many rows.

        Segments stay pending, as they are computed again, and questions to a person, who may still answer.
        """
        count = 0
        with self.transaction("interrupt pending"):
            for table, key in (("llm_calls", "id"), ("tool_calls", "id"), ("events", "seq")):
                for row in self.find(table, session_id=session_id, status="pending"):
                    if row.get("kind") == QUESTION:
                        continue
                    self.complete(table, row[key], status="interrupted")
                    count += 1
        return count

    def heartbeat(self, session_id: str) -> None:
        """Write the time and the wall seconds so far; call it every few seconds."""
        self.complete("sessions", session_id, heartbeat_at=now(), **self._wall(session_id))

    def end_session(self, session_id: str, status: str, reason: str | None = None) -> None:
        """Stop a session: status paused, interrupted, failed or done, with one sentence why."""
        at = now()
        with self.transaction("end session"):
            self.complete(
                "sessions",
                session_id,
                status=status,
                stop_reason=reason,
                heartbeat_at=at,
                ended_at=at,
                **self._wall(session_id),
            )
            self.clock.stop(session_id)

    def _wall(self, session_id: str) -> dict[str, float]:
        seconds = self.clock.seconds(session_id)
        return {} if seconds is None else {"wall_seconds": seconds}


def _new_token() -> str:
    return secrets.token_hex(16)

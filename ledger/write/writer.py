"""Write the ledger: the log of one session at a time, one transaction per step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from learning_signal.ledger.canonical import quick_json
from learning_signal.ledger.connection import open_to_write
from learning_signal.ledger.file.damage import stored_json
from learning_signal.ledger.write.chain import chained
from learning_signal.ledger.write.rows import OnCommit
from learning_signal.ledger.write.sessions import SessionWriter


class Ledger(SessionWriter):
    """The writing side of the log; every method raises ``LedgerError`` when SQLite fails.

    Once another process has resumed a session that this ledger began or resumed, and has not ended, every transaction
    raises ``SessionTaken``: two processes never write one session.
    """

    @classmethod
    def open(cls, path: str | Path, secrets: Iterable[str] = (), on_commit: OnCommit | None = None) -> Ledger:
        """Open or create the ledger at ``path`` and bring it to the newest version.

        Args:
            path: the file; missing parent directories are created.
            secrets: values (API keys) that must never be written.
            on_commit: called after every commit, see ``Ledger.on_commit``.

        Raises:
            LedgerError: the place is not writable, or the file is not a ledger, or a newer program wrote it.
        """
        return cls(open_to_write(Path(path)), Path(path), secrets, on_commit)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # events, cursor ---------------------------------------------------------------------

    def event(
        self,
        session_id: str,
        kind: str,
        title: str,
        *,
        round: int | None = None,
        phase: str | None = None,
        agent: str | None = None,
        status: str = "ok",
        ref: tuple[str, Any] | None = None,
    ) -> int:
        """Add an event to the session's story, return its number; ``ref`` is the (table, id) it is about."""
        number: int = self.add(
            "events",
            session_id=session_id,
            round=round,
            phase=phase,
            agent=agent,
            kind=kind,
            status=status,
            title=title,
            **_reference(ref),
        )
        return number

    def complete_event(
        self, seq: int, status: str, title: str | None = None, ref: tuple[str, Any] | None = None
    ) -> None:
        """Give a pending event its final status, and a new title or reference where one is given."""
        changes: dict[str, str | None] = {} if title is None else {"title": title}
        if ref is not None:
            changes |= _reference(ref)
        self.complete("events", seq, status=status, **changes)

    def save_cursor(self, session_id: str, state: dict[str, Any]) -> None:
        """Store the cursor of the session in place of the last one.

        It is stored verbatim but for known keys of 16 characters or more (shorter ones are refused where keys are
        read), so that a resume continues with the very same texts.
        """
        with self._writing("save cursor"):
            self._execute(
                "INSERT INTO cursors (session_id, state) VALUES (?, ?) "
                "ON CONFLICT (session_id) DO UPDATE SET state = excluded.state",
                (session_id, self._redactor.certain(quick_json(state))),
            )

    def load_cursor(self, session_id: str) -> dict[str, Any] | None:
        """Return the stored cursor, or None if there is none."""
        row = self.row("cursors", session_id)
        return None if row is None else stored_json(self.path, row["state"], "where the session stands", (dict,))

    # results --------------------------------------------------------------------------------------

    def add_metrics(self, session_id: str, segment_id: str, rows: Iterable[dict[str, Any]]) -> int:
        """Add the metrics of a segment and return how many values were stored.

        Args:
            rows: one dict per update: ``env_steps`` and metric name -> value, None where there is none.
        """
        given = [dict(row) | {"env_steps": int(row["env_steps"])} for row in rows]
        names = list(dict.fromkeys(name for row in given for name in row))
        if given:
            packed = {name: [row.get(name) for row in given] for name in names}
            self.add("packed_metrics", session_id=session_id, segment_id=segment_id, packed=packed)
        return sum(len(row) - 1 for row in given)

    def add_decision(self, session_id: str, **row: Any) -> str:
        """Add the next decision of a session, chained to the one before, and return its id."""
        with self._writing("add decision"):
            return str(self.add("decisions", **chained(self, session_id, row)))


def _reference(ref: tuple[str, Any] | None) -> dict[str, str | None]:
    return {"ref_table": ref[0], "ref_id": str(ref[1])} if ref else {"ref_table": None, "ref_id": None}

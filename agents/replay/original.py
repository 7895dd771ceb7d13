"""A recorded session, as far as it takes to play it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from learning_signal.agents.replay.script import Script, read_script
from learning_signal.agents.session.running import SessionError, stored
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import SessionRow
from learning_signal.ledger.read.training import SegmentRow
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.tools.consent import NO_CONSENT, Consent, admit_once, uses_of_store, uses_of_task
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.plan.settings import SessionSettings, as_made


class Original:
    """A recorded session, as far as a replay needs it."""

    def __init__(
        self,
        path: Path,
        session: str,
        store: Path | None = None,
        consent: Consent = NO_CONSENT,
        *,
        plays: bool = True,
        trains: bool = False,
    ) -> None:
        """Read a session of the log at ``path``; ``store`` is where its segments are now, if elsewhere.

        ``plays`` is whether it is to be played, which makes its task, and ``trains`` whether segments will be written
        to that store. Raises ``LedgerError``, ``SessionError`` where it
        is no session with agents or this version cannot read it, and ``NotTrusted`` where the session is not this
        user's and ``consent`` does not cover the code and the store that it names.
        """
        with Reader.open(path) as reader:
            self.row: SessionRow = reader.session(session)
            if self.row.kind != "run":
                raise SessionError(f"Session {self.row.id} is a training run and has no agents: choose a session.")
            settings = stored(SessionSettings, as_made(reader.config(self.row.id)), self.row.id)
            uses = uses_of_task(settings.run.task, consent, f"session {self.row.id}") if plays else []
            if trains:
                confirmed = replace(consent, store=settings.store if store is not None else consent.store)
                uses += uses_of_store(settings.store, confirmed, f"session {self.row.id}")
            admit_once(reader, self.row.id, uses, consent)
            self.script: Script = read_script(reader, self.row.id)
            self.segments: Mapping[str, SegmentRow] = reader.segments(self.row.id)
        self.path = path
        self.settings = settings.model_copy(
            update={
                "store": (store or settings.store).resolve(),
                "budget": Budget(),  # what was affordable then was done then
                "twin": False,  # trained after the last decision
            }
        )

    def missing(self) -> list[SegmentRow]:
        """The segments that the session trained and the store no longer has, in the order they were trained."""
        store = SegmentStore(self.settings.store)
        needed = (row for row in self.segments.values() if row.status == "ok" and row.purpose != "twin")
        return [row for row in needed if not store.has(row.id)]

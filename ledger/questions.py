"""Questions to a person: a pending event each, which outlives the process that asked, until there is an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.origin import Rows
from learning_signal.ledger.wording import command, ledger_option

QUESTION = "question"
"""The kind of its event. A resume does not interrupt it: it waits for a person, not for a process."""


@dataclass(frozen=True)
class OpenQuestion:
    """A promotion that waits for a person."""

    seq: int
    """Of its event."""
    session: str
    round: int
    asked: str
    """When it was asked; no other question has the same time."""
    title: str
    candidate: str
    """The candidate's row."""

    @property
    def id(self) -> str:
        """As ``approve`` and ``reject`` take it, e.g. ``20261122-154501-k3f/R2``."""
        return f"{self.session}/R{self.round}"


def open_question(rows: Rows, session: str) -> OpenQuestion | None:
    """The question of a session that has no answer yet; there is at most one."""
    found = rows(
        "SELECT seq, session_id AS session, round, started_at AS asked, title, ref_id AS candidate FROM events "
        f"WHERE session_id = ? AND kind = '{QUESTION}' AND status = 'pending' ORDER BY seq DESC LIMIT 1",
        (session,),
    )
    return OpenQuestion(**found[0]) if found else None


def how_to_answer(question: str, ledger: Path) -> str:
    """The commands that answer a question, given by its id, from another shell."""
    there = ledger_option(ledger)
    return f'{command("approve", question)}{there}, or {command("reject", question)} --reason "…"{there}'


def open_to_answer(rows: Rows, session: str, question: str) -> OpenQuestion:
    """The open question of ``session`` that ``question`` means: its id, or just the session.

    Raises ``LedgerError`` with one sentence where it is not open, with what became of it.
    """
    found, number = open_question(rows, session), _round(question)
    if found is not None and number in (None, found.round):
        return found
    if found is not None:
        raise LedgerError(f"{session}/R{number} is not open; the question that is open is {found.id}: answer that.")
    past = rows(
        f"SELECT round, title FROM events WHERE session_id = ? AND kind = '{QUESTION}' ORDER BY seq DESC", (session,)
    )
    told = [f"{row['title']} (round {row['round']})" for row in past if number in (None, row["round"])]
    what = f"; of before: {told[0]}" if told else ", and none was asked"
    raise LedgerError(f"Session {session} has no open question{what}: there is nothing to answer.")


def _round(question: str) -> int | None:
    """The round that ``SESSION/R2`` or ``SESSION/2`` names; None where it names none."""
    _, separator, round_ = question.partition("/")
    if not separator:
        return None
    number = round_.removeprefix("R")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise LedgerError(f"Found {question[:60]!r}, expected an id such as 20261122-154501-k3f/R2: 'log list' has it.")
    return int(number)

"""What may be told to a session from outside: an answer to its open question, words for its agents, or a request."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.inbox import Letter, send
from learning_signal.ledger.questions import OpenQuestion, open_to_answer
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import SessionRow


def answer(
    ledger: Path, kind: Literal["approve", "reject"], question: str, reason: str, through: str = ""
) -> tuple[SessionRow, OpenQuestion, Letter]:
    """Answer the open question that ``question`` means; ``through`` says by which program, if not this one's commands.

    Raises ``LedgerError`` where it is not open, or its session hears nothing any more.
    """
    with Reader.open(ledger) as reader:
        row = _hearing(reader, question.partition("/")[0])
        found = open_to_answer(reader.rows, row.id, question)
    return row, found, send(ledger, row.id, kind, reason, asked=found.asked, through=through)


def say(ledger: Path, session: str, text: str, through: str = "") -> tuple[SessionRow, Letter]:
    """Say something to the agents of a session; ``LedgerError`` where it hears nothing any more."""
    with Reader.open(ledger) as reader:
        row = _hearing(reader, session)
    return row, send(ledger, row.id, "say", text, through=through)


def ask(
    ledger: Path, kind: Literal["propose", "launch"], session: str, text: str, through: str
) -> tuple[SessionRow, Letter]:
    """Ask a session for something; ``LedgerError`` where it hears nothing any more."""
    with Reader.open(ledger) as reader:
        row = _hearing(reader, session)
    return row, send(ledger, row.id, kind, text, through=through)


def when(row: SessionRow) -> str:
    """Where the session does not run now, when it reads what it is told."""
    return "" if row.status == "running" else f"; it is {row.status} and reads that when it is resumed"


def _hearing(reader: Reader, session: str) -> SessionRow:
    row = reader.session(session)
    if row.kind == "training":
        raise LedgerError(f"{row.id} is a training run, expected a session with agents: there is nobody to tell.")
    if row.status == "done":
        raise LedgerError(f"Session {row.id} is done, expected one that runs or can be resumed: nobody hears it.")
    return row

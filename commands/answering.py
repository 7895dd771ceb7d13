"""``approve``, ``reject`` and ``say``: what a person tells a session from another shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Session
from learning_signal.viewer.cli.terminal import out, show_json

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.records import SessionRow

Question = Annotated[str, typer.Argument(help="SESSION/R2 as the session prints it, a session's id, or 'latest'.")]


def approve(
    question: Question = "latest",
    reason: Annotated[str, typer.Option(help="Why; the agents read it.")] = "",
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Approve the promotion that a session asks about; the session may run elsewhere, or be paused."""
    return _answer("approve", question, reason, ledger, as_json)


def reject(
    question: Question = "latest",
    reason: Annotated[str, typer.Option(help="Why; the agents read it.")] = "",
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Reject the promotion that a session asks about: the shaping stays as it is."""
    return _answer("reject", question, reason, ledger, as_json)


def say(
    session: Session,
    text: Annotated[str, typer.Argument(help="A sentence or two for the agents.")],
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Say something to the agents of a session: the next one that begins its phase reads it in its brief."""
    from learning_signal.ledger.inbox import send
    from learning_signal.ledger.read.reader import Reader

    with Reader.open(ledger) as reader:
        row = _hearing(reader, session)
    letter = send(ledger, row.id, "say", text)
    told = {"session": row.id, "said": letter.text, "by": letter.by, "at": letter.at}
    return _told(told, f"Said to session {row.id}, whose next agent reads it in its brief{_when(row)}.", as_json)


def _answer(kind: Literal["approve", "reject"], question: str, reason: str, ledger: Ledger, as_json: bool) -> int:
    from learning_signal.ledger.inbox import send
    from learning_signal.ledger.questions import open_to_answer
    from learning_signal.ledger.read.reader import Reader

    with Reader.open(ledger) as reader:
        row = _hearing(reader, question.partition("/")[0])
        found = open_to_answer(reader.rows, row.id, question)
    letter = send(ledger, row.id, kind, reason, asked=found.asked)
    told = {"question": found.id, "answer": kind, "reason": letter.text, "by": letter.by, "at": letter.at}
    candidate, word = found.candidate.rpartition("/")[2], {"approve": "Approved", "reject": "Rejected"}[kind]
    return _told(told, f"{word}: {candidate} of {found.id}{_when(row)}.", as_json)


def _hearing(reader: Reader, session: str) -> SessionRow:
    """The session, if it can still be told something; ``LedgerError`` otherwise."""
    from learning_signal.ledger.errors import LedgerError

    row = reader.session(session)
    if row.kind == "training":
        raise LedgerError(f"{row.id} is a training run, expected a session with agents: there is nobody to tell.")
    if row.status == "done":
        raise LedgerError(f"Session {row.id} is done, expected one that runs or can be resumed: nobody hears it.")
    return row


def _when(row: SessionRow) -> str:
    """Where the session does not run now, when it reads what it is told."""
    return "" if row.status == "running" else f"; it is {row.status} and reads that when it is resumed"


def _told(data: dict[str, str], sentence: str, as_json: bool) -> int:
    if as_json:
        return show_json(data)
    out.print(sentence, markup=False, soft_wrap=True)
    return 0

"""``approve``, ``reject`` and ``say``: what a person tells a session from another shell."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Session
from learning_signal.viewer.cli.terminal import out, show_json

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
    from learning_signal.viewer.telling import say as tell_agents
    from learning_signal.viewer.telling import when

    row, letter = tell_agents(ledger, session, text)
    told = {"session": row.id, "said": letter.text, "by": letter.by, "at": letter.at}
    return _told(told, f"Said to session {row.id}, whose next agent reads it in its brief{when(row)}.", as_json)


def _answer(kind: Literal["approve", "reject"], question: str, reason: str, ledger: Ledger, as_json: bool) -> int:
    from learning_signal.viewer.telling import answer, when

    row, found, letter = answer(ledger, kind, question, reason)
    told = {"question": found.id, "answer": kind, "reason": letter.text, "by": letter.by, "at": letter.at}
    candidate, word = found.candidate.rpartition("/")[2], {"approve": "Approved", "reject": "Rejected"}[kind]
    return _told(told, f"{word}: {candidate} of {found.id}{when(row)}.", as_json)


def _told(data: dict[str, str], sentence: str, as_json: bool) -> int:
    if as_json:
        return show_json(data)
    out.print(sentence, markup=False, soft_wrap=True)
    return 0

"""What a reader points at: a session, a round of it, or an event by its number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.query import Query


@dataclass(frozen=True)
class Place:
    """A session, or in it one round or one event."""

    session: str
    round: int | None = None
    event: int | None = None


def find_place(reader: Query, text: str = "latest") -> Place:
    """The place written as ``SESSION``, ``SESSION/R2``, ``SESSION#286``, ``#286`` or ``286``.

    SESSION is an id, the beginning of one, or ``latest``. A number alone is an event where no session begins with it.

    Raises:
        LedgerError: there is no such place; the sentence says what is there.
    """
    given = text.strip()
    if re.fullmatch(r"#?[0-9]+", given) and not _begins_a_session(reader, given):
        return _event(reader, int(given.removeprefix("#")[:18]), None)
    session, mark, number = given.rpartition("#")
    if mark:
        if not number.isdecimal():
            raise LedgerError(f"Found {text!r}, expected the number of an event after '#', as in latest#286.")
        return _event(reader, int(number[:18]), reader.session_id(session) if session else None)
    session, slash, name = given.partition("/")
    chosen = reader.session_id(session or "latest")
    if not slash:
        return Place(chosen)
    if not re.fullmatch(r"R?[0-9]{1,6}", name):
        raise LedgerError(f"Found {text!r}, expected a round after '/', as in latest/R2.")
    round_ = int(name.removeprefix("R"))
    rounds = [
        row["round"]
        for row in reader.rows(
            "SELECT DISTINCT round FROM events WHERE session_id = ? AND round IS NOT NULL ORDER BY 1", (chosen,)
        )
    ]
    if round_ not in rounds:
        there = ", ".join(f"R{each}" for each in rounds) or "it has none yet"
        raise LedgerError(f"Session {chosen} has no round {round_}; expected one of its rounds: {there}.")
    return Place(chosen, round=round_)


def _begins_a_session(reader: Query, text: str) -> bool:
    return bool(reader.rows("SELECT 1 FROM sessions WHERE substr(id, 1, ?) = ? LIMIT 1", (len(text), text)))


def _event(reader: Query, number: int, session: str | None) -> Place:
    found = reader.rows("SELECT session_id FROM events WHERE seq = ?", (number,))
    if not found:
        (last,) = reader.rows("SELECT max(seq) last FROM events")
        raise LedgerError(f"There is no event #{number} in the ledger {reader.path}; its last is #{last['last'] or 0}.")
    owner = reader.session_id(found[0]["session_id"])
    if session is not None and owner != session:
        raise LedgerError(f"The event #{number} belongs to session {owner}, expected one of {session}.")
    return Place(owner, event=number)

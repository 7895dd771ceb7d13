"""What agents claimed, and the marks: what in their words the record did not support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.records import Finding

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader


@dataclass(frozen=True)
class ClaimRow:
    """Words of an agent as they were checked."""

    session_id: str
    round: int
    event_seq: int
    """The event of the row that the words are part of."""
    about: str
    """The table of that row: diagnoses, proposals, verdicts, decisions, or events where they have no other row."""
    row_id: str
    agent: str
    words: dict[str, Any]
    """By field; of a diagnosis, all of it."""
    known: dict[str, Any]
    """What they were held against besides rows."""
    marks: list[dict[str, Any]]
    """``field``, ``kind``, ``claim`` and ``problem`` of each; empty where everything is supported."""


Recheck = Callable[["Reader", ClaimRow], list[dict[str, Any]]]
"""The marks of a stored claim, computed again from the rows before it."""


def claims(reader: Reader, session: str, round: int | None = None) -> list[ClaimRow]:
    """The claims of a session in order; none in a ledger of an earlier version, which did not check them."""
    if not reader.rows("SELECT 1 FROM sqlite_master WHERE name = 'claims'"):
        return []
    rows = reader.rows(
        "SELECT * FROM claims WHERE session_id = ?1 AND (?2 IS NULL OR round = ?2) ORDER BY id",
        (reader.session_id(session), round),
    )
    bodies = ("words", "known", "marks")
    return [
        ClaimRow(
            **{name: reader.json(value) if name in bodies else value for name, value in row.items() if name != "id"}
        )
        for row in rows
    ]


def notices(reader: Reader, recheck: Recheck) -> list[Finding]:
    """Claims of all sessions that the record does not support, marked or not: no damage, but no record either."""
    found = []
    for session in reader.sessions(limit=None):
        for claim in claims(reader, session.id):
            found += _of_claim(reader, claim, recheck)
    return found


def _of_claim(reader: Reader, claim: ClaimRow, recheck: Recheck) -> list[Finding]:
    try:
        computed = recheck(reader, claim)
    except (LedgerError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"words of the {claim.agent} could not be held against the record again: {error}"
        return [Finding(claim.about, claim.row_id, problem)]
    every = {each["problem"]: each for each in (*claim.marks, *computed)}
    return [
        Finding(claim.about, claim.row_id, f"{claim.agent}: {problem}{_since(each, claim.marks, computed)}")
        for problem, each in every.items()
    ]


def _since(mark: dict[str, Any], stored: list[dict[str, Any]], computed: list[dict[str, Any]]) -> str:
    if mark not in stored:
        return "; it was not marked when it was made"
    return "" if mark in computed else "; it was marked when it was made, and computed again it is not"

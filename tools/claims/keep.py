"""A claim checked, and its row: words, what they were held against, and the marks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from learning_signal.ledger.read.claims import ClaimRow
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.claims.check import END, marks_of
from learning_signal.tools.claims.known import known_of
from learning_signal.tools.claims.mark import Known, Mark
from learning_signal.tools.context import SessionContext

About = Literal["diagnoses", "proposals", "verdicts", "decisions", "events"]


@dataclass(frozen=True)
class Checked:
    """Words of an agent with what was found in them."""

    about: About
    """The table of the row that the words are part of."""
    agent: str
    words: Mapping[str, Any]
    """By field; of a diagnosis, all of it as JSON data."""
    known: Known
    marks: tuple[Mark, ...]

    @property
    def problems(self) -> list[str]:
        """The sentences of the marks."""
        return [mark.problem for mark in self.marks]


def checked(context: SessionContext, about: About, agent: str, words: Mapping[str, Any]) -> Checked:
    """Words of this round, held against the record as it is now."""
    with Reader.open(context.ledger.path) as reader:
        known = known_of(context, reader)
        kept = context.ledger.redacted(dict(words))
        claim = ClaimRow(
            session_id=context.session,
            round=context.round.number,
            event_seq=END,
            about=about,
            row_id="",
            agent=agent,
            words=kept,
            known={},
            marks=[],
        )
        return Checked(about, agent, kept, known, marks_of(reader, claim, known))


def keep_claim(context: SessionContext, claim: Checked, row_id: str, event_seq: int) -> None:
    """Write a checked claim that event ``event_seq`` is about, and an event where it has marks. In a transaction."""
    context.ledger.add(
        "claims",
        session_id=context.session,
        round=context.round.number,
        event_seq=event_seq,
        about=claim.about,
        row_id=row_id,
        agent=claim.agent,
        words=dict(claim.words),
        known=claim.known.model_dump(mode="json"),
        marks=[mark.model_dump() for mark in claim.marks],
    )
    if claim.marks:
        context.event("mark", mark_title(claim.agent, claim.marks), ref=("events", event_seq))


def unsupported(context: SessionContext, about: str, row_id: str, field: str = "") -> list[str]:
    """The problems of the stored claim about a row, or of one field of it; none where there is no claim about it."""
    found: list[str] = []
    for row in context.ledger.find("claims", session_id=context.session, about=about, row_id=row_id):
        (body,) = context.ledger.find("bodies", hash=row["marks"])
        found += [mark["problem"] for mark in json.loads(body["body"]) if field in ("", mark["field"])]
    return found


def said(context: SessionContext, agent: str, words: Any, about: str, row_id: str, field: str = "") -> dict[str, Any]:
    """``words`` of ``agent`` for the brief of another: as ``{agent}_says``, with the marks of the claim about a row.

    They stand under ``unsupported``; ``field`` takes only those of one field, as of one candidate's rationale.
    """
    found = unsupported(context, about, row_id, field)
    return {f"{agent}_says": words} | ({"unsupported": found} if found else {})


def mark_title(agent: str, marks: Sequence[Mark]) -> str:
    """One line for a person: how many marks, and the first."""
    more = f" (and {len(marks) - 1} more)" if len(marks) > 1 else ""
    return f"unsupported words of the {agent}: {marks[0].problem}{more}"

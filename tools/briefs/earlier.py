"""What earlier sessions of the ledger tried on the same task with the same learner, and how it ended."""

from __future__ import annotations

from typing import Any

from learning_signal.ledger.read.fates import Attempt, attempts_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.tools.base import rounded
from learning_signal.tools.context import Earlier, SessionContext

MOST = 8
"""Attempts that are told: confirmed ones before screened ones, and of each those of the newest sessions."""
COLUMNS = ("stage", "shaping_text", "outcome", "measured_by", "sparse_return", "progress", "level")


def earlier_attempts(context: SessionContext) -> dict[str, Any] | None:
    """A table of attempts, their differences to the control in both measures; None where there is none.

    Of sessions that had ended when this one began, so that a resume is told the same.
    """
    if not context.settings.deliberation.earlier:
        return None
    mine = context.earlier or Earlier(context.ledger.path, context.session)
    with Reader.open(mine.ledger) as reader:
        rows = reader.rows(
            "SELECT other.id FROM sessions other JOIN sessions mine ON mine.id = ? WHERE other.task = mine.task "
            "AND other.algorithm = mine.algorithm AND other.kind = 'run' AND other.ended_at < mine.started_at "
            "ORDER BY other.started_at DESC, other.id DESC LIMIT ?",
            (mine.session, MOST),
        )
        found = [each for row in rows for each in attempts_of(reader, row["id"])]
    chosen = sorted(found, key=lambda each: each.measured_by != "confirm")[:MOST]
    return {"columns": list(COLUMNS), "rows": [_row(each) for each in chosen]} if chosen else None


def _row(attempt: Attempt) -> list[Any]:
    return [
        attempt.stage,
        shaping_text(attempt.shaping),
        attempt.fate,
        attempt.measured_by,
        rounded(attempt.sparse_return),
        rounded(attempt.progress),
        rounded(attempt.level),
    ]

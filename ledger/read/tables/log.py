"""The log as scripts and notebooks open it: records, and tables for data frames."""

from __future__ import annotations

from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.columns import columns
from learning_signal.ledger.read.tables.tables import table


class Log(Reader):
    """A log opened read-only. It sees what was committed, also while a session is writing."""

    def table(self, name: str, session: str | None = None) -> list[dict[str, Any]]:
        """The rows of a table as plain dicts: of one session, or of all of the log, the oldest first.

        Args:
            name: sessions, events, decisions, evaluations, segments or curves; ``columns`` says what each column is.
            session: an id, the beginning of one, or latest; all sessions when None.

        Raises:
            LedgerError: there is no such table, or no such session.
        """
        return table(self, name, session)

    def columns(self, name: str) -> dict[str, str]:
        """What each column of a table is, with its unit; ``LedgerError`` where there is no such table."""
        return {column: meaning for column, (_, meaning) in columns(name).items()}

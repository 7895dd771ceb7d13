"""The seal of a session: a short fingerprint of its chain, that a copy of the record elsewhere can be held against."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.errors import LedgerError

RECOVERED = "recovered"
"""How a first link begins that was written after a recovery."""
DIGITS = 16
"""Hexadecimal digits of a seal: to make another record with the same one takes about 2^64 trials."""

Rows = Callable[[str, tuple[Any, ...]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Sealed:
    """The record that a seal belongs to."""

    session: str
    link: int
    """The last link it covers."""
    links: int
    """Of the session's chain now: more where the session went on."""

    def text(self, seal: str) -> str:
        """The same as a sentence."""
        since = self.links - self.link
        more = "" if since == 0 else f", as far as link {self.link}: it went on after that for {since} more"
        return f"The seal {seal} is that of session {self.session}{more}."


def seal_of(rows: Rows, session: str) -> str | None:
    """The seal of what a session has written so far; None where it has no chain."""
    found = rows("SELECT hash FROM links WHERE session_id = ? ORDER BY number DESC LIMIT 1", (session,))
    return found[0]["hash"][:DIGITS] if found else None


def was_recovered(rows: Rows, session: str) -> bool:
    """Whether the session's chain begins with a recovery: until then nothing vouches for it."""
    begins = f'[["{RECOVERED}"'
    return bool(
        rows(
            "SELECT 1 FROM links WHERE session_id = ? AND number = 1 AND substr(entries, 1, ?) = ?",
            (session, len(begins), begins),
        )
    )


def sealed_by(rows: Rows, seal: str) -> Sealed | None:
    """The session and link with this seal, None where the ledger has none.

    Raises:
        LedgerError: this is no seal.
    """
    if re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", seal) is None:
        raise LedgerError(
            f"Found the seal {seal[:40]!r}, expected {DIGITS} hexadecimal digits as the report of a session and "
            "'log list' print them."
        )
    found = rows(
        "SELECT session_id, number, (SELECT max(number) FROM links l WHERE l.session_id = links.session_id) links "
        "FROM links WHERE substr(hash, 1, ?) = ?",
        (DIGITS, seal),
    )
    return Sealed(found[0]["session_id"], found[0]["number"], found[0]["links"]) if found else None

"""The ids of sessions: how they are made, and which ones are refused when they are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from learning_signal.ledger.errors import LedgerError

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: an id is also read aloud and typed

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{3}")
ID_IN_SQL = "GLOB '" + "-".join(("[0-9]" * 8, "[0-9]" * 6, "[a-z0-9]" * 3)) + "'"
"""The same as a condition on a column."""


def new_session_id() -> str:
    """A short id that sorts by time, e.g. ``20261122-154501-k3f``."""
    import secrets  # only what begins a session needs it

    suffix = "".join(secrets.choice(_LETTERS) for _ in range(3))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{suffix}"


def is_session_id(text: str) -> bool:
    """Whether ``text`` is an id as `new_session_id` makes them: names of folders and parts of commands come from it."""
    return _ID.fullmatch(text) is not None


def refuse_strange_id(session_id: str, path: Path) -> None:
    """Raise ``LedgerError`` where the session in the ledger at ``path`` has an id that this program does not write."""
    if not is_session_id(session_id):
        shown = session_id if len(session_id) <= 60 else session_id[:57] + "..."
        raise LedgerError(
            f"A session of the ledger {path} has the id {shown!r}, expected one such as 20261122-154501-k3f, as this "
            "program writes them: choose another session ('log list' lists them)."
        )

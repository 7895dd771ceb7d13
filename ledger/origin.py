"""Which sessions this user began on this machine: remembered outside of every ledger, so that none can claim it.

For each session there is a small file in the user's state folder. It holds a fingerprint of what a resume would act on:
the id, the kind, the stored configuration and the backend of each agent. A ledger of a stranger, or one of your own
that was changed, has another fingerprint. Where the folder cannot be written, a resume asks as for a foreign session.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STATE_VARIABLE = "LEARNING_SIGNAL_STATE"
"""Environment variable that names the state folder."""

Rows = Callable[[str, tuple[Any, ...]], list[dict[str, Any]]]
"""How a ledger is queried: the ``rows`` of a reader or a writer."""


def state_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """``$LEARNING_SIGNAL_STATE``, or ``learning-signal`` in ``$XDG_STATE_HOME`` or ``~/.local/state``.

    None where this user has no home folder.
    """
    if environment.get(STATE_VARIABLE):
        return Path(environment[STATE_VARIABLE])
    if environment.get("XDG_STATE_HOME"):
        return Path(environment["XDG_STATE_HOME"]) / "learning-signal"
    try:
        return Path.home() / ".local" / "state" / "learning-signal"
    except RuntimeError:
        return None


def remember(rows: Rows, session: str) -> None:
    """Note that the session is this user's as it now stands. Earlier notes stay: a crash may undo what was written."""
    path, found = _path(session), fingerprint(rows, session)
    if path is None or found in _known(session):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(found + "\n")
    except OSError as error:
        from loguru import logger  # slow to import, and seldom needed

        logger.info("a resume will ask for --trust: {} cannot be written ({})", path, error.strerror)


def is_ours(rows: Rows, session: str) -> bool:
    """Whether this user began the session on this machine, and what a resume acts on is unchanged since."""
    return fingerprint(rows, session) in _known(session)


def fingerprint(rows: Rows, session: str) -> str:
    """A hash of what a resume of the session would act on, as it is stored. Bodies are read, not their addresses."""
    found = rows(
        "SELECT sessions.id, kind, body FROM sessions LEFT JOIN bodies ON hash = config WHERE sessions.id = ?",
        (session,),
    )
    spoken = rows("SELECT role, spec FROM agents WHERE session_id = ? ORDER BY since, rowid", (session,))
    latest = sorted((repr(row["role"]), repr(row["spec"])) for row in {row["role"]: row for row in spoken}.values())
    text = repr(([tuple(row.values()) for row in found], latest))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _path(session: str) -> Path | None:
    """The file of a session, named by a hash: an id from a received ledger is not used as a file name."""
    folder = state_folder()
    name = hashlib.sha256(str(session).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return None if folder is None else folder / "sessions" / name


def _known(session: str) -> set[str]:
    """The fingerprints that were noted for a session."""
    path = _path(session)
    try:
        return set() if path is None else set(path.read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError):
        return set()

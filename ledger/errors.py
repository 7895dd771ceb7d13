"""The one error of the ledger, and the sentence a user reads when SQLite fails."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path

from learning_signal.ledger.wording import command


class LedgerError(Exception):
    """The ledger cannot do what was asked; the text is one sentence for the user."""


class SessionTaken(LedgerError):
    """Another process runs the session now: this one must write nothing more, and stop."""


def sentence(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> str:
    """Return one sentence (found, what to do) for an SQLite error on the ledger at ``path``."""
    text = str(error)
    if "disk is full" in text:
        return (
            f"The disk is full, so the last step could not be written to the ledger {path}; "
            "everything committed before it is kept: free some space, then resume the session."
        )
    if "locked" in text or "busy" in text:
        return f"The ledger {path} is locked by another process; wait until it has finished, then try again."
    if "malformed" in text or "decode" in text:
        return (
            f"The ledger {path} is damaged ({text}): '{command('log', 'recover')} {shlex.quote(str(path))} --to NEW' "
            "keeps every row that can be read."
        )
    if "not a database" in text:
        return f"The file {path} is not a readable SQLite ledger ({text}); give another path."
    if "unable to open" in text:
        return (
            f"The ledger {path} cannot be opened; expected a file that you may read, or to start a session a writable "
            "file in a writable directory: check the path and its permissions."
        )
    if "readonly" in text or "read-only" in text:
        return (
            f"The ledger {path} cannot be written to; expected a writable file in a writable directory: "
            "check its permissions."
        )
    if "I/O error" in text:
        return f"The ledger {path} could not be read or written ({text}); check the disk, then resume."
    return f"The ledger {path} refused a write: {text}."

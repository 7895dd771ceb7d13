"""Copy an open ledger to a new file, which appears whole or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from learning_signal.ledger.errors import LedgerError, sentence

PAGES = 256
"""Pages that are copied at a time: a writer waits for no longer than that takes."""


def write_copy(
    original: sqlite3.Connection, source: Path, to: Path, on_progress: Callable[[int, int], None] | None = None
) -> int:
    """Copy the ledger that ``original`` has open, named ``source``, to ``to``; returns the bytes of the copy.

    It is SQLite's online backup, and checked by SQLite. ``on_progress`` is told how many pages are copied, and of how
    many.

    Raises:
        LedgerError: something stands at ``to``, or either cannot be read or written.
    """
    if to.exists() or to.is_symlink():
        raise LedgerError(f"There is something at {to} already, and a copy overwrites nothing: give another path.")
    partial = to.with_name(f".{to.name}.partial")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as copy:
            report = None if on_progress is None else lambda _, left, total: on_progress(total - left, total)
            original.backup(copy, pages=PAGES, progress=report, sleep=0.01)
            copy.execute("PRAGMA journal_mode = DELETE")
            (checked,) = copy.execute("PRAGMA integrity_check").fetchone()
            if checked != "ok":
                raise LedgerError(f"The copy of {source} is damaged ({checked}); see what 'log verify' finds in it.")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.link(partial, to)  # fails where something has come to stand there
        return to.stat().st_size
    except sqlite3.Error as error:
        raise LedgerError(sentence(error, source)) from error
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        raise LedgerError(f"The copy {to} cannot be written ({reason}): give another path.") from error
    finally:
        partial.unlink(missing_ok=True)

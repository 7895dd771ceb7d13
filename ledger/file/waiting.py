"""Wait while another process locks a ledger, such as a backup or a database browser: for minutes, and say so once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

LOOK_SECONDS = 0.1
"""How long SQLite itself waits before it is asked again; in between, signals are handled, each of several."""
SAY_SECONDS = 5.0
"""What is waited for longer than this is said."""
PATIENCE_SECONDS = 600.0
"""After this a lock is an error."""

Result = TypeVar("Result")


def patiently(path: Path, attempt: Callable[[], Result]) -> Result:
    """The result of ``attempt`` on the ledger at ``path``, made again for as long as another process locks it.

    Raises what ``attempt`` raises; that the ledger is locked only after ``PATIENCE_SECONDS``.
    """
    began, said = time.monotonic(), False
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - began
            if not _locked(error) or waited >= PATIENCE_SECONDS:
                raise
            if waited >= SAY_SECONDS and not said:
                said = True
                _say(path)
            time.sleep(0.02)  # SQLite does not wait at all where it sees a deadlock


def _locked(error: sqlite3.Error) -> bool:
    name = getattr(error, "sqlite_errorname", None) or ""
    return name.startswith("SQLITE_BUSY") and name != "SQLITE_BUSY_SNAPSHOT"


def _say(path: Path) -> None:
    from loguru import logger  # slow to import, and seldom needed

    logger.warning(
        "The ledger {} is locked by another process, such as a backup or a database browser: waiting for up to {:.0f} "
        "minutes until it is free.",
        path,
        PATIENCE_SECONDS / 60,
    )

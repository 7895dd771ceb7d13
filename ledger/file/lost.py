"""Notice that the file of an open ledger is no longer at its place, and keep what the open connection still holds.

A deleted or moved file lives for as long as it is open: SQLite goes on writing to it, and nobody will find it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.file.copying import write_copy
from learning_signal.ledger.wording import command, ledger_option, resume_command


class LedgerLost(LedgerError):
    """The file of the ledger was deleted, moved or replaced while it was open; the text says where its rows are now."""


class OpenFile:
    """The file of a ledger that is open to write, by its inode: what it is, whatever its name."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path, self._inode = connection, path, _inode(path)
        self._lost: LedgerLost | None = None

    def refuse_lost(self) -> None:
        """Raise ``LedgerLost`` again where it was raised before."""
        if self._lost is not None:
            raise self._lost

    def refuse_if_lost(self, sessions: Iterable[str]) -> None:
        """Raise ``LedgerLost`` where the file is no longer at its place; the first time its rows are written elsewhere.

        ``sessions`` are those that this process runs. No transaction may be open.
        """
        if self._lost is None and not self._in_place():
            self._lost = rescued(self._connection, self._path, list(sessions))
        self.refuse_lost()

    def _in_place(self) -> bool:
        try:
            return _inode(self._path) == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # the place cannot be looked at: a write will tell
            return True


def _inode(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def rescued(connection: sqlite3.Connection, path: Path, sessions: Sequence[str]) -> LedgerLost:
    """Write what ``connection`` holds of the lost ledger at ``path`` to a new file, and say where; it is not raised.

    That is beside the ledger, in the working folder, or among the temporary files: the first that can be written.
    ``sessions`` are those that this process was running.
    """
    name = f"{path.stem}-rescued-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}{path.suffix}"
    reasons = []
    for folder in (path.parent, Path.cwd(), Path(tempfile.gettempdir())):
        if not folder.is_dir():
            continue
        to = folder / name
        try:
            write_copy(connection, path, to)
        except LedgerError as error:
            reasons.append(str(error))
            continue
        return LedgerLost(
            f"The ledger {path} was deleted, moved or replaced while it was written, so this process stops; all of "
            f"its rows are in {to}: {_next(to, sessions)}."
        )
    return LedgerLost(
        f"The ledger {path} was deleted, moved or replaced while it was written, so this process stops; its rows could "
        f"not be written elsewhere ({' '.join(reasons) or 'no folder is left'})."
    )


def _next(to: Path, sessions: Sequence[str]) -> str:
    if len(sessions) == 1:
        return f"go on with '{resume_command(sessions[0], to)}'"
    return f"see '{command('log', 'list')}{ledger_option(to)}'"

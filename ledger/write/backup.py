"""A copy of a ledger as it stands, also while a session writes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from learning_signal.ledger.connection import open_to_read
from learning_signal.ledger.file.copying import write_copy


def backup(source: Path, to: Path, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Copy the ledger at ``source`` to ``to``, one moment of it; returns the bytes of the copy.

    ``on_progress`` is told how many pages are copied, and of how many. Raises ``LedgerError`` where something stands at
    ``to``, or either cannot be read or written.
    """
    with closing(open_to_read(source)) as original:
        return write_copy(original, source, to, on_progress)

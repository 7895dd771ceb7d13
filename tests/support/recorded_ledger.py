"""The recorded session: a ledger that the program wrote, to be read, changed and resumed by tests.

It was recorded by ``tests/support/record_ledger.py``. Round 1 promotes on progress after a screen in which a worker
died, round 2 keeps after a fail and an inconclusive refinement, round 3 promotes what round 4 rolls back, and in
round 5 the session was stopped while code read for the Critic, resumed, and killed while the Critic's tool call ran.
"""

from __future__ import annotations

import lzma
import sqlite3
from contextlib import closing
from pathlib import Path

STORED = Path(__file__).parents[1] / "ledger" / "data" / "recorded.db.xz"
RECORDED_ID = "20261122-154501-k3f"


def recorded_ledger(path: Path) -> Path:
    """Unpack the recorded ledger to ``path``."""
    path.write_bytes(lzma.decompress(STORED.read_bytes()))
    return path


def hostile_ledger(path: Path, words: str) -> Path:
    """The recorded ledger with ``words`` wherever an agent, a server or a stranger could have put them.

    Its texts no longer have their hashes, and its triggers are gone: it is only there to be shown.
    """
    with closing(sqlite3.connect(recorded_ledger(path))) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for change in (
            "events SET title = ?1",
            "decisions SET reason = ?1",
            "verdicts SET reading = ?1, reason = ?1",
            "candidates SET rationale = ?1",
            "agents SET spec = ?1, source = ?1",
            "bodies SET body = ?1 WHERE hash IN (SELECT body FROM messages)",
            "bodies SET body = ?1 WHERE hash IN (SELECT result FROM tool_calls)",
            "bodies SET body = ?1 WHERE hash IN (SELECT reply FROM llm_calls)",
        ):
            connection.execute(f"UPDATE {change}", (words,))
    return path

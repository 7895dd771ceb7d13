"""The recorded session: a ledger that the program wrote, to be read, changed and resumed by tests.

It was recorded by ``tests/support/record_ledger.py``. Round 1 promotes on progress after a screen in which a worker
died, round 2 keeps after a fail and an inconclusive refinement, round 3 promotes what round 4 rolls back, and in
round 5 the session was stopped while code read for the Critic, resumed, and killed while the Critic's tool call ran.
"""

from __future__ import annotations

import lzma
from pathlib import Path

STORED = Path(__file__).parents[1] / "ledger" / "data" / "recorded.db.xz"
RECORDED_ID = "20261122-154501-k3f"


def recorded_ledger(path: Path) -> Path:
    """Unpack the recorded ledger to ``path``."""
    path.write_bytes(lzma.decompress(STORED.read_bytes()))
    return path

"""A script that runs one session per case and kills it with SIGKILL at a commit point.

    python killed_session.py '[{"folder": ..., "label": "step", "nth": 1, "when": "before", "workers": true}]'

``label`` is a transaction's label, ``nth`` counts its transactions from 1, ``when`` says whether the process
dies just before or just after that commit, ``workers`` whether segments run in worker processes. Prints one
JSON list: the signal each session died of, or null where it lived on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import learning_signal.agents.session.session
from learning_signal.ledger.write.writer import Ledger
from tests.support import session_helpers
from tests.support.synthetic_training import InlinePool


def kill_at(label: str, nth: int, when: str) -> None:
    """From now on this process dies at that commit."""
    original, seen = Ledger.transaction, Counter()

    @contextmanager
    def transaction(ledger, name):
        joins = ledger._open
        with original(ledger, name):
            yield
            seen[name] += not joins
            fatal = not joins and name == label and seen[name] == nth
            if fatal and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    Ledger.transaction = transaction


def died_of(case: dict) -> int | None:
    """Run a case in a process of its own, forked here so that the imports are paid for once."""
    child = os.fork()
    if child == 0:
        try:
            kill_at(case["label"], case["nth"], case["when"])
            learning_signal.agents.session.session.open_executor = (
                session_helpers.synthetic_workers if case["workers"] else InlinePool
            )
            session_helpers.run(session_helpers.tiny_settings(Path(case["folder"])))
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


if __name__ == "__main__":
    print(json.dumps([died_of(case) for case in json.loads(sys.argv[1])]))

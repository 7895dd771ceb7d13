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
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from learning_signal.ledger.write.writer import Ledger
from tests.support import session_helpers
from tests.support.synthetic_training import InlinePool


def kill_at(label: str, nth: int, when: str) -> None:
    """From now on this process dies at that commit."""
    seen = Counter()

    def before(name: str) -> None:
        seen[name] += 1
        if when == "before":
            after(name)

    def after(name: str) -> None:
        if (name, seen[name]) == (label, nth):
            os.kill(os.getpid(), signal.SIGKILL)

    Ledger.transaction = outermost(before, after)


def outermost(before: Callable[[str], None], after: Callable[[str], None] = lambda label: None):
    """``Ledger.transaction``, but that the label of every one that joins no other is told before and after its commit.

    One that is taken back is told to neither.
    """
    original, depth = Ledger.transaction, Counter()

    @contextmanager
    def transaction(ledger, label):
        joins = depth[ledger.path] > 0
        with original(ledger, label):
            depth[ledger.path] += 1
            try:
                yield
            finally:
                depth[ledger.path] -= 1
            if not joins:
                before(label)
        if not joins:
            after(label)

    return transaction


def died_of(case: dict) -> int | None:
    """Run a case in a process of its own, forked here so that the imports are paid for once."""
    child = os.fork()
    if child == 0:
        try:
            kill_at(case["label"], case["nth"], case["when"])
            pool = session_helpers.synthetic_workers if case["workers"] else InlinePool
            session_helpers.run(session_helpers.tiny_settings(Path(case["folder"])), pool=pool)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def warmed_up() -> None:
    """Run a session that nobody kills: what its first one loads, every process forked here then has."""
    with TemporaryDirectory() as folder:
        session_helpers.run(session_helpers.tiny_settings(Path(folder)), pool=InlinePool)


if __name__ == "__main__":
    warmed_up()
    print(json.dumps([died_of(case) for case in json.loads(sys.argv[1])]))

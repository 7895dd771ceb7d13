"""What the live page takes to answer with a session: its transcript, curves and decisions, ready to be used."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from starlette.testclient import TestClient

from learning_signal.viewer.web.guard import Door
from learning_signal.viewer.web.site import site

REQUESTS = 5
"""After a first one, which reads the templates."""


def session_page_seconds(ledger: Path) -> float:
    """CPU seconds in which the page of the latest session is made, the median of several requests."""
    address = "http://127.0.0.1"
    application = site(ledger, Door("no-token-is-needed", False, "127.0.0.1", 80), lambda reader, session: {})
    taken = []
    with TestClient(application, base_url=address) as asked:
        for _ in range(1 + REQUESTS):
            began = time.process_time()
            answer = asked.get("/session/latest")
            taken.append(time.process_time() - began)
            if answer.status_code != 200:
                raise RuntimeError(f"the session page of {ledger} was answered with {answer.status_code}")
    return statistics.median(taken[1:])

"""The time of a row, and the wall time of the sessions that this process runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple


def now() -> str:
    """The time as UTC ISO 8601 text, always equally long, so that texts sort like times."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class _Run(NamedTuple):
    """One session in the hands of this ledger."""

    token: str
    started: float
    seconds_before: float


class SessionClock:
    """The sessions a ledger began or resumed: the token of each, and its wall time."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def start(self, session_id: str, seconds_before: float, token: str) -> None:
        """Count on from ``seconds_before``; ``token`` is what the session's row holds while it is ours."""
        self._runs[session_id] = _Run(token, time.monotonic(), seconds_before)

    def stop(self, session_id: str) -> None:
        """The session has ended: it is not in hand any more."""
        self._runs.pop(session_id, None)

    def seconds(self, session_id: str) -> float | None:
        """Seconds the session has run in all, None when this process does not run it."""
        run = self._runs.get(session_id)
        return None if run is None else run.seconds_before + time.monotonic() - run.started

    def runs(self) -> dict[str, _Run]:
        """The sessions in hand, by id."""
        return dict(self._runs)

    def restore(self, runs: dict[str, _Run]) -> None:
        """Go back to what ``runs`` returned: the transaction since then was undone."""
        self._runs = dict(runs)

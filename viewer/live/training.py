"""A training run on a terminal while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from learning_signal.viewer.live.bar import BarView
from learning_signal.viewer.live.base import EVERY_SECONDS
from learning_signal.viewer.text import clean, count, number

RATE_SECONDS = 20.0
"""Seconds over which the displayed rate is taken."""


class TrainingView(BarView):
    """Shows a training run while it runs: a bar on a terminal, a line every few seconds where ``plain``.

    ``event`` and ``progress`` may be called from any thread.
    """

    def __init__(
        self, console: Console, heading: str, total: int, *, plain: bool, every: float = EVERY_SECONDS
    ) -> None:
        super().__init__(console, heading, total, plain=plain, every=every)
        self.session: str | None = None
        self._lock = threading.Lock()
        self._reports: list[tuple[float, int]] = []

    def event(self, row: Mapping[str, Any]) -> None:
        """Note the session's id, and print what was evaluated and what failed."""
        self.session = row["session_id"]
        if row["kind"] in ("stage", "session") or row["status"] == "error":
            style = "red" if row["status"] == "error" else ""
            self.say(Text(f"  {clean(row['title'])}", style))

    def progress(self, done: int, latest: Mapping[str, float | None]) -> None:
        """Show that ``done`` env steps are done."""
        with self._lock:
            now = time.monotonic()
            self._reports.append((now, done))
            while self._reports[0][0] < now - RATE_SECONDS and len(self._reports) > 2:
                self._reports.pop(0)
            self.move(done, self._facts(done, latest))

    def _facts(self, done: int, latest: Mapping[str, float | None]) -> str:
        parts = [f"{count(done)} of {count(self._total)} env steps"]
        (first, before), (last, after) = self._reports[0], self._reports[-1]
        if last > first:
            parts.append(f"{count(round((after - before) / (last - first)))}/s")
        parts.append(f"return {number(latest.get('sparse_return'))}")
        if latest.get("progress") is not None:
            parts.append(f"progress {number(latest['progress'])}")
        return ", ".join(parts)

"""A study on a terminal while it runs: its cells."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console
from rich.text import Text

from learning_signal.viewer.live.bar import BarView
from learning_signal.viewer.text import MISSING, clean, count, number, outcome_text

EVERY_SECONDS = 30.0
"""Seconds between two lines of progress where there is no terminal: a study takes hours."""


class StudyView(BarView):
    """Shows a study while it runs: a line per cell that ends, and a bar, or an occasional line where ``plain``.

    ``progress`` may be called from any thread.
    """

    def __init__(self, console: Console, heading: str, cells: int, total: int, *, plain: bool) -> None:
        super().__init__(console, heading, total, plain=plain, every=EVERY_SECONDS)
        self.session = None
        self._cells, self._ended = cells, 0
        self._running: list[str] = []
        self._lock = threading.Lock()

    def cell(self, cell: Any, result: Any) -> None:
        """A cell begins, or has ended with its result."""
        if result is None:
            self.head()
            self._running.append(str(cell))
            return
        self._running.remove(str(cell))
        self._ended += 1
        line = Text.assemble(f"  {self._ended}/{self._cells} ", (clean(str(cell)), "bold"), ": ")
        if result.outcome == "done":
            line.append(f"sparse return {number(result.final)}")
            if result.final_progress is not None:
                line.append(f", progress {number(result.final_progress)}")
            line.append(f" after {count(result.env_steps)} env steps")
            if result.promotions is not None:
                line.append(f", {result.promotions} promoted")
        else:
            line.append_text(outcome_text(result.outcome)).append(f": {clean(result.reason or MISSING)}")
        self.say(line)

    def progress(self, done: int) -> None:
        """Show that ``done`` env steps of all cells are done."""
        with self._lock:
            facts = f"{self._ended} of {self._cells} runs, {done / 1e6:.2f} of {self._total / 1e6:.2f} M env steps"
            self.move(done, facts, f"; running: {'; '.join(self._running)}")

"""What all views share: entering and leaving, lines below a heading, and lines of progress."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from learning_signal.viewer.text import clean

EVERY_SECONDS = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class View:
    """Prints lines while something runs; a context manager.

    ``display`` is the live area at the bottom of a terminal. None means lines of progress instead, ``every`` seconds.
    """

    def __init__(
        self, console: Console, heading: str, display: Live | Progress | None = None, every: float = EVERY_SECONDS
    ) -> None:
        self.console = console
        self._heading, self._display = heading, display
        self._every, self._said = every, time.monotonic()

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the display and give the terminal back; may be called twice."""
        if self._display is not None:
            self._display.stop()

    def head(self) -> None:
        """Print the heading, where that has not been done."""
        if self._heading:
            heading, self._heading = self._heading, ""
            self.console.print(Text(clean(heading), "bold"), soft_wrap=True)

    def say(self, line: Text) -> None:
        """Print one line, whatever its length, above the display and below the heading."""
        self.head()
        self.console.print(line, soft_wrap=True)

    def due(self) -> bool:
        """Whether a line of progress is due; if so, the next one is due ``every`` seconds later."""
        now = time.monotonic()
        if now - self._said < self._every:
            return False
        self._said = now
        return True

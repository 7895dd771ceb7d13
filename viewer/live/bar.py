"""The progress bar of a training run, a study, and anything short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from learning_signal.viewer.live.base import EVERY_SECONDS, View


class BarView(View):
    """A view with a bar of ``total`` env steps and facts beside it; where ``plain``, an occasional line."""

    def __init__(
        self, console: Console, heading: str, total: int, *, plain: bool, every: float = EVERY_SECONDS
    ) -> None:
        columns = BarColumn(bar_width=24), TextColumn("{task.description}"), TimeRemainingColumn(compact=True)
        bar = None if plain else Progress(*columns, TextColumn("left"), console=console, transient=True)
        super().__init__(console, heading, bar, every)
        self._bar, self._total = bar, total
        self._task = None if bar is None else bar.add_task("", total=total)

    def move(self, done: int, facts: str, more: str = "") -> None:
        """Move the bar to ``done`` env steps; a line of progress adds ``more`` to the facts."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, description=facts)
        elif self.due():
            self.say(Text(f"  {facts}{more}", "dim"))


@contextmanager
def bar(console: Console, what: str) -> Iterator[Any]:
    """A bar that is gone at the end; gives a function ``(done, total)``. Nothing is shown in a pipe."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=40), TimeRemainingColumn(compact=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""A renderable with something in front of its lines. Nesting is cheap: nothing is measured before it is shown."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

LEAST = 20
"""Columns that are left for the renderable, however deep it lies."""


class Indented:
    """``inner`` with ``first`` in front of its first line, and as much space in front of the others."""

    def __init__(self, inner: RenderableType, first: str = "  "):
        self.inner, self._first = inner, first

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(LEAST, options.max_width - len(self._first))
        lines = console.render_lines(self.inner, options.update(width=width, height=None), pad=False)
        for index, line in enumerate(lines):
            yield Segment(self._first if index == 0 else " " * len(self._first))
            yield from line
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(LEAST, options.max_width), options.max_width)

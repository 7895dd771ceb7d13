"""A training run on a terminal: its progress while it runs, and the table of its evaluations at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.reports.next_steps import command_table
from learning_signal.viewer.text import clean, count, duration, number, outcome_text, styled

SHOWN = 12
"""Evaluations in the table at the end; the log has all of them."""
EVERY_SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""
RATE_SECONDS = 20.0
"""The rate shown is that of the latest so many seconds."""


class TrainingView:
    """Shows a training run while it runs: a bar on a terminal, a line every few seconds where ``plain``.

    A context manager; ``event`` and ``progress`` may be called from any thread.
    """

    def __init__(self, console: Console, heading: str, total: int, *, plain: bool) -> None:
        self.console, self.session = console, None
        self._heading, self._total = heading, total
        self._lock = threading.Lock()
        self._reports: list[tuple[float, int]] = []
        self._said = time.monotonic()
        self._bar = (
            None
            if plain
            else Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                transient=True,
            )
        )
        self._task = self._bar.add_task("training", total=total, facts="") if self._bar is not None else None

    def __enter__(self) -> TrainingView:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bar; may be called twice."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: Text) -> None:
        """Print one line, above the bar while there is one; the first one below the heading."""
        if self._heading:
            heading, self._heading = self._heading, ""
            self.say(Text(clean(heading), "bold"))
        self.console.print(line, soft_wrap=True)

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
            facts = self._facts(done, latest)
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done, facts=facts)
            elif now - self._said >= EVERY_SECONDS:
                self._said = now
                self.say(Text(f"  {facts}"))

    def _facts(self, done: int, latest: Mapping[str, float | None]) -> str:
        parts = [f"{count(done)} of {count(self._total)} env steps"]
        (first, before), (last, after) = self._reports[0], self._reports[-1]
        if last > first:
            parts.append(f"{count(round((after - before) / (last - first)))}/s")
        parts.append(f"return {number(latest.get('sparse_return'))}")
        if latest.get("progress") is not None:
            parts.append(f"progress {number(latest['progress'])}")
        return ", ".join(parts)


def render_training(outcome: Mapping[str, Any], next_commands: Sequence[tuple[str, str]]) -> Group:
    """The report on a training run (the plain data of its outcome) for a terminal of 100 columns."""
    headline = Text.assemble(("Training ", "bold"), styled(outcome["session_id"], "bold"), " ")
    headline.append_text(outcome_text(outcome["status"]))
    if outcome["stop_reason"]:
        headline.append(f": {clean(outcome['stop_reason'])}")
    parts: list[RenderableType] = [Text(), headline, Text()]
    if outcome["curve"]:
        parts += [_curve(outcome["curve"]), Text()]
    facts = Table.grid(padding=(0, 2))
    reused = f" ({count(outcome['env_steps_reused'])} were stored already)" if outcome["env_steps_reused"] else ""
    rate = outcome["env_steps_per_second"]
    for label, value in (
        ("Trained", f"{count(outcome['env_steps'])} of {count(outcome['total_env_steps'])} env steps{reused}"),
        ("Time", duration(outcome["wall_seconds"]) + ("" if rate is None else f", {count(round(rate))} env steps/s")),
        ("Shaping", outcome["shaping_text"]),
        ("Log", outcome["ledger"]),
    ):
        facts.add_row(Text(label, "bold"), styled(value))
    parts.append(facts)
    if next_commands:
        parts += [Text(), Text("What to type next", "bold"), command_table(next_commands)]
    return Group(*parts)


def _curve(points: Sequence[Mapping[str, Any]]) -> Table:
    """Evaluations on the confirm episodes, evenly thinned out to ``SHOWN``; the last is always there."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("env steps", "sparse return", "95 % interval", "progress", "episodes"):
        table.add_column(name, justify="right")
    rows = min(SHOWN, len(points))
    for index in (len(points) * (each + 1) // rows - 1 for each in range(rows)):
        point = points[index]
        table.add_row(
            count(point["env_steps"]),
            number(point["sparse_return"]),
            f"{number(point['low'])} to {number(point['high'])}",
            number(point["progress"]),
            count(point["episodes"]),
        )
    return table

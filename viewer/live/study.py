"""A study on a terminal: its cells while they run, and the table of its arms at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import MISSING, clean, count, number, outcome_text, styled

EVERY_SECONDS = 30.0
"""Between two lines of progress where there is no terminal."""


class StudyView:
    """Shows a study while it runs: a line per cell that ends, and a bar, or a line now and then where ``plain``.

    A context manager; ``progress`` may be called from any thread.
    """

    def __init__(self, console: Console, heading: str, cells: int, total: int, *, plain: bool) -> None:
        self.console, self.session = console, None
        self._cells, self._ended, self._total = cells, 0, total
        self._running: list[str] = []
        self._heading = heading
        self._lock, self._said = threading.Lock(), time.monotonic()
        self._bar = (
            None
            if plain
            else Progress(
                TextColumn("{task.fields[facts]}"),
                BarColumn(bar_width=24),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                transient=True,
            )
        )
        self._task = None if self._bar is None else self._bar.add_task("study", total=total, facts="")

    def __enter__(self) -> StudyView:
        self.say(Text(clean(self._heading), "bold"))
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
        """Print one line, above the bar while there is one."""
        self.console.print(line, soft_wrap=True)

    def cell(self, cell: Any, result: Any) -> None:
        """A cell begins, or has ended with its result."""
        if result is None:
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
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done, facts=facts)
            elif time.monotonic() - self._said >= EVERY_SECONDS:
                self._said = time.monotonic()
                self.say(Text(f"  {facts}; running: {'; '.join(self._running)}", "dim"))


def render_study(report: Mapping[str, Any], files: Sequence[str]) -> Group:
    """The report on a study (plain data) for a terminal of 100 columns; ``files`` are what was written."""
    parts: list[RenderableType] = [Text()]
    seeds, level = report["seeds"], report["level"]
    for group in report["groups"]:
        heading = Text.assemble((clean(group["title"]), "bold"), f"  {group['unit']} on held-out episodes")
        parts += [heading, _table(group)]
        if len(report["groups"]) == 1 or group is not report["groups"][-1]:  # the last is of all tasks together
            parts += [
                Text.assemble("  ", (clean(row["arm"]), "bold"), f" has no number: {clean(reason)}")
                for row in group["rows"]
                for reason in row["failures"]
            ]
        parts.append(Text())
    parts.append(
        Text(
            f"n = {len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({_seeds(seeds)}), "
            f"{count(report['env_steps'])} env steps for every run, branches included, in whole rollouts. "
            f"mean: Student-t {level:.0%} interval; IQM (interquartile mean) and "
            f"P(> {report['baseline']}), the probability that a run is above one of that arm: stratified bootstrap. "
            f"No interval from fewer than 2 seeds; intervals of few seeds are wide and bootstrap ones too narrow. "
            "time: of one worker, all runs together. (-1): one of the promotions was rolled back. Gates confirm on the "
            "same held-out episodes that are reported; whatever chooses the best of several never sees them.",
            "dim",
        )
    )
    parts += [Text(each, "dim") for each in files]
    if any(cell["outcome"] == "stopped" for cell in report["cells"]):
        parts += [Text(), Text("Not finished: the same command goes on.", "bold yellow")]
    return Group(*parts)


def _table(group: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("arm", style="bold", no_wrap=True)
    for name in ("n", "mean", "IQM", "P(> twin)", "env steps", "promoted", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in group["rows"]:
        promoted = MISSING if row["promotions"] is None else str(row["promotions"])
        if row["rollbacks"]:
            promoted += f" (-{row['rollbacks']})"
        table.add_row(
            styled(row["arm"]),
            str(row["n"]),
            _with_interval(row["mean"], row["interval"]),
            _with_interval(row["iqm"], row["iqm_interval"]),
            _with_interval(row["better"], row["better_interval"], 2),
            MISSING if row["env_steps"] is None else f"{row['env_steps'] / 1e6:.2f} M",
            promoted,
            MISSING if row["compute_seconds"] is None else f"{row['compute_seconds'] / 60:.0f} min",
        )
    return table


def _with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 3) -> str:
    shown = number(value, digits)
    return shown if interval is None else f"{shown} [{number(interval[0], digits)}, {number(interval[1], digits)}]"


def _seeds(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"

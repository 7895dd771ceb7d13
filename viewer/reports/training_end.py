"""The final report of a training run: the table of its evaluations, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.reports.next_steps import command_table
from learning_signal.viewer.text import clean, count, duration, number, outcome_text, styled

SHOWN = 12
"""Evaluations in the table; the log has all of them."""


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
        ("Evaluated", f"{count(outcome['evaluation_env_steps'])} env steps beside them"),
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

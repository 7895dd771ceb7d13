"""The scores of a policy that was played, beside the task's own heuristic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import clean, count, number, styled


def render_play(played: Mapping[str, Any]) -> Group:
    """The result of ``play`` (plain data): a row for each player, and where the animations are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{clean(played['task'])}, {count(played['episodes'])} episodes")
    for name in ("sparse return", "95 % interval", "scored", "progress", "steps"):
        table.add_column(name, justify="right")
    for label, score in played["scores"].items():
        table.add_row(
            styled(label, "bold"),
            number(score["sparse_return"]),
            f"{number(score['low'])} to {number(score['high'])}",
            f"{score['scored']:.1%}",
            number(score["progress"]),
            number(score["steps"]),
        )
    places = Table.grid(padding=(0, 2))
    for name, path in played["animations"].items():
        places.add_row(Text(f"{clean(name)} episode", "bold"), styled(str(path)))
    return Group(table, Text(), places)

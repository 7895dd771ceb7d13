"""The plan of a session for ``--dry-run``: nested values as indented lines, lists of records as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import MISSING, clean, count, number, styled


def render_plan(plan: Mapping[str, Any]) -> Group:
    """``plan`` (plain JSON data) for a terminal; nothing was run."""
    return Group(Text("Dry run: nothing is trained and no model is called.", "bold"), *_lines(plan))


def _lines(values: Mapping[str, Any]) -> list[RenderableType]:
    shown: list[RenderableType] = []
    plain = Table.grid(padding=(0, 2))
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            shown += [Text(f"\n{_words(key)}", "bold"), Padding(_table(value), (0, 0, 0, 2), expand=False)]
        elif isinstance(value, Mapping) and value:
            shown += [Text(f"\n{_words(key)}", "bold"), Padding(Group(*_lines(value)), (0, 0, 0, 2), expand=False)]
        else:
            plain.add_row(styled(_words(key), "dim"), Text(_scalar(value)))
    return [plain, *shown] if plain.row_count else shown


def _table(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        right = all(isinstance(row.get(key), int | float) for row in rows)
        table.add_column(_words(key), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(_scalar(row.get(key))) for key in keys))
    return table


def _scalar(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return count(int(value)) if value.is_integer() and value >= 1000 else number(value)
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(_scalar(each) for each in value) or MISSING
    return clean(str(value))


def _words(key: str) -> str:
    return clean(str(key)).replace("_", " ")

"""What there is to choose from: tasks with their features, and backends with what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.wording import command
from learning_signal.viewer.text import MISSING, clean, count, number, outcome_text, styled


def render_tasks(specs: Sequence[Mapping[str, Any]]) -> Group:
    """Task declarations (plain data of a ``TaskSpec``) with one line per feature."""
    parts: list[RenderableType] = []
    for spec in specs:
        facts = Table.grid(padding=(0, 2))
        facts.add_column(no_wrap=True)
        facts.add_column()
        facts.add_row(Text("sparse reward", "dim"), styled(spec["sparse_reward"]))
        facts.add_row(Text("progress", "dim"), styled(spec["progress"]))
        facts.add_row(
            Text("size", "dim"),
            Text(f"{_who(spec)}, episodes of {count(spec['horizon'])} steps, {_most(spec['max_return'])}"),
        )
        features = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("feature", "scope", "range", "better", "what it is"):
            features.add_column(name, no_wrap=name != "what it is")
        for feature in spec["features"]:
            features.add_row(
                styled(feature["name"], "bold"),
                styled(feature["scope"]),
                Text(f"{number(feature['low'])} to {number(feature['high'])}"),
                styled(feature["direction"]),
                styled(feature["description"]),
            )
        parts += [
            Text.assemble(styled(spec["name"], "bold"), "  ", styled(spec["description"])),
            Padding(Group(facts, features), (0, 0, 1, 2), expand=False),
        ]
    return Group(*parts)


def _who(spec: Mapping[str, Any]) -> str:
    """How many agents there are, of which kinds where there are several, and what they choose."""
    kinds = spec.get("groups") or ()
    names = ", ".join(f"{len(kind['agents'])} {clean(kind['name'])}" for kind in kinds)
    who = f"{spec['agents']} agents" + (f" ({names})" if len(kinds) > 1 else "")
    masked = " of which masks allow some" if spec.get("masks_actions") else ""
    return f"{who}, {spec['actions']} " + ("numbers per action" if spec.get("continuous") else f"actions{masked}")


def _most(max_return: float | None) -> str:
    if max_return is None:
        return "the largest sparse return is not known"
    return f"sparse return at most {number(max_return)}"


def render_backends(rows: Sequence[Mapping[str, Any]]) -> Group:
    """The table of backends; every field of a row becomes a column."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    keys = list(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        table.add_column(clean(key).replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in keys))
    return Group(table, Text(f"Use one with: {command('session')} --agent critic=SPEC (or all=SPEC)", "dim"))


def render_check(spec: str, result: Mapping[str, Any]) -> Text:
    """Whether a backend answered; the other fields of ``result`` follow."""
    line = Text.assemble(styled(spec, "bold"), ": ", outcome_text("ok" if result["ok"] else "failed"))
    for key, value in result.items():
        if key not in ("ok", "spec") and value is not None and value != "":
            line.append(f"\n  {clean(key).replace('_', ' ')}: {_cell(value).plain}")
    return line


def _cell(value: Any) -> Text:
    if value is None:
        return Text(MISSING, "dim")
    if isinstance(value, bool):
        return Text("yes", "green") if value else Text("no", "dim")
    if isinstance(value, float):
        return Text(number(value))
    return styled(str(value))

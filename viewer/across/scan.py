"""What the scanners found, on a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.across.scan import SCANNERS, Spotted
from learning_signal.viewer.text import agent_text, clean


def render_scan(found: Sequence[Spotted], sessions: int) -> Group:
    """Every finding with the event to open; below them how many each scanner has."""
    parts: list[RenderableType] = []
    for each in found:
        where = Text.assemble((clean(each.place), "bold"), " ", (each.scanner, "yellow"), " ", agent_text(each.agent))
        parts += [where, Padding(Text(clean(each.sentence)), (0, 0, 0, 4), expand=False)]
    counts = {name: sum(each.scanner == name for each in found) for name in SCANNERS}
    told = ", ".join(f"{name} {number}" for name, number in counts.items() if number) or "nothing"
    parts.append(Text(f"{sessions} session{'s' if sessions != 1 else ''} scanned; found: {told}.", "dim"))
    if found:
        parts.append(Text(f"'log show {clean(found[0].place)}' opens the first.", "dim"))
    return Group(*parts)


def render_scanners() -> Table:
    """The scanners there are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("scanner")
    table.add_column("looks for")
    for name, scanner in SCANNERS.items():
        table.add_row(Text(name, "bold"), scanner.looks_for)
    return table

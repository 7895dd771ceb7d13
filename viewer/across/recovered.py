"""What was kept of a damaged log, table by table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.wording import command, ledger_option
from learning_signal.ledger.write.recover import Kept
from learning_signal.viewer.text import clean, count


def render_recovered(kept: Sequence[Kept], ledger: Path, to: Path) -> RenderableType:
    """A line for each table that has, or had, rows."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("table", no_wrap=True)
    for name in ("kept", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in kept:
        if each.rows or each.lost:
            table.add_row(each.table, count(each.rows), Text(count(each.lost), "red" if each.lost else "dim"))
    rows, lost = sum(each.rows for each in kept), sum(each.lost for each in kept)
    words = f"{count(rows)} rows of {clean(str(ledger))} are in {clean(str(to))}"
    known = (
        f"{count(lost)} that it is known to have had are lost" if lost else "none that it is known to have had is lost"
    )
    return Group(
        table,
        Text(f"{words}, {known}."),
        Text(
            "The new log is unsealed: nothing vouches for it. What no longer agrees in it: "
            f"{clean(command('log', 'verify') + ledger_option(to))}"
        ),
    )

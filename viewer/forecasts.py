"""Forecasts on a terminal: one against what was measured, and the record of each agent and backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.forecasts import BINS, UNINFORMED, ForecastRecord
from learning_signal.ledger.read.records import CandidateRow
from learning_signal.viewer.text import MISSING, clean, number, styled


def forecast_text(candidate: CandidateRow) -> str:
    """The forecast of a candidate and, after an arrow, what was measured, where it was."""
    said = (
        f"forecast: {clean(candidate.forecast_metric).replace('_', ' ')} "
        f"{number(candidate.forecast_change, sign=True)}, {number(candidate.forecast_probability)} sure"
    )
    if candidate.difference is None:
        return said
    return f"{said} → {number(candidate.difference, sign=True)}"


def render_forecasts(records: Sequence[ForecastRecord], sessions: int) -> RenderableType:
    """A table of the records of ``sessions`` sessions, for a terminal of 100 columns."""
    if not records:
        return Text("The log has no forecast yet: no candidate was proposed.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("agent", no_wrap=True)
    table.add_column("backend", overflow="fold")
    for name in ("scored", "not compared", "Brier"):
        table.add_column(name, justify="right", no_wrap=True)
    for low, high in BINS:
        table.add_column(f"said {number(low, 2)} to {number(high, 2)}", justify="right", no_wrap=True)
    for record in records:
        bins = {each.low: each for each in record.calibration}
        cells = [
            f"{number(found.mean_probability, 2)} → {number(found.share_true, 2)} (n {found.n})" if found else MISSING
            for found in (bins.get(low) for low, _ in BINS)
        ]
        table.add_row(
            styled(record.role),
            styled(record.backend),
            str(record.n),
            str(record.unscored),
            number(record.brier),
            *cells,
        )
    told = (
        f"{sessions} session{'s' if sessions != 1 else ''}. Brier: mean squared error of the probabilities; always "
        f"saying 0.5 gets {UNINFORMED}. Said: mean probability → share that came true."
    )
    return Group(table, Text(told, "dim"))


def record_lines(records: Sequence[Mapping[str, Any]]) -> list[Text]:
    """The records of a session (plain data), a line each; none where nothing is scored."""
    return [
        Text.assemble(
            ("Forecasts: ", "bold"),
            f"{clean(each['role'])}, {each['n']} scored, Brier score {number(each['brier'])} "
            f"(always saying 0.5: {UNINFORMED})",
        )
        for each in records
        if each["n"]
    ]

"""The record of every backend on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.across.backends import BackendRecord
from learning_signal.ledger.read.forecasts import UNINFORMED
from learning_signal.viewer.text import MISSING, count, duration, limit_text, number, styled

_COLUMNS = ("phases", "gave up", "text", "refused", "Brier", "tokens", "price", "latency")
_SHADOW = "as shadow"


def render_records(records: Sequence[BackendRecord], sessions: int) -> RenderableType:
    """A table of the records over ``sessions`` sessions, for a terminal of 100 columns."""
    if not records:
        return Text("The log has no model call yet.")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("backend", overflow="fold", ratio=1)
    shadows = any(each.shadow_replies for each in records)
    for name in (*_COLUMNS, *([_SHADOW] if shadows else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for each in records:
        table.add_row(
            styled(each.backend),
            count(each.phases),
            count(each.given_up),
            _part(each.text_replies, each.replies),
            _part(each.refused_calls, each.tool_calls),
            number(each.brier),
            _tokens(each.tokens_per_promotion),
            MISSING if each.usd_per_promotion is None else limit_text("usd", each.usd_per_promotion),
            _latency(each.median_latency_ms),
            *([_part(each.shadow_agreed, each.shadow_replies)] if shadows else []),
        )
    told = (
        f"{sessions} session{'s' if sessions != 1 else ''}. Phases: rounds in which it spoke for a role. Text: replies "
        "without a call where one was asked for. Refused: calls that were answered with an error. Brier: mean squared "
        f"error of forecasts, {UNINFORMED} for always saying 0.5. Tokens and price: in all, for each promotion of a "
        "round in which it spoke. Latency: median of a reply. --json has the rest."
    )
    if shadows:
        told += " As shadow: answers equal to those of the agent beside which it was asked."
    return Group(table, Text(told, "dim"))


def _part(some: int, of: int) -> str:
    return f"{some} of {of}" if of else MISSING


def _tokens(tokens: float | None) -> str:
    return count(None if tokens is None else round(tokens))


def _latency(milliseconds: float | None) -> str:
    if milliseconds is None or milliseconds >= 1000:
        return duration(None if milliseconds is None else milliseconds / 1000)
    return f"{milliseconds:.0f} ms"

"""What each agent did, by backend, on a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.across.stats import AgentStats
from learning_signal.ledger.read.forecasts import UNINFORMED
from learning_signal.viewer.text import MISSING, agent_text, count, duration, limit_text, number, styled

UNKNOWN = "?"
ROWS: tuple[tuple[str, Callable[[AgentStats], str]], ...] = (
    ("replies", lambda each: count(each.replies) + (f" ({each.failed} failed)" if each.failed else "")),
    ("tokens in", lambda each: _tokens(each.tokens_in, each.tokens_cached, "cached")),
    ("tokens out", lambda each: _tokens(each.tokens_out, each.tokens_reasoning, "reasoning")),
    ("latency, median", lambda each: _latency(each.median_ms)),
    ("latency, 95 %", lambda each: _latency(each.p95_ms)),
    ("price", lambda each: UNKNOWN if each.cost_usd is None else limit_text("usd", each.cost_usd)),
    ("calls refused", lambda each: f"{each.refused} of {each.tool_calls}" if each.tool_calls else MISSING),
    ("nudges", lambda each: count(each.nudges)),
    ("gave up", lambda each: count(each.given_up)),
    ("Brier score", lambda each: MISSING if each.brier is None else f"{number(each.brier)} (n = {each.forecasts})"),
    ("evidence a claim", lambda each: number(each.cited / each.claims) if each.claims else MISSING),
    ("unsupported", lambda each: f"{each.marks} in {each.claims}" if each.claims else MISSING),
)
"""What is told of each, and how."""
ACROSS = 4
"""Agents beside each other."""


def render_stats(found: Sequence[AgentStats], sessions: int) -> RenderableType:
    """A column for every role and backend, ``ACROSS`` beside each other."""
    if not found:
        return Text("No model was asked in these sessions.")
    tables: list[RenderableType] = [_table(found[at : at + ACROSS]) for at in range(0, len(found), ACROSS)]
    told = (
        f"{sessions} session{'s' if sessions != 1 else ''}. Brier score: mean squared error of forecasts, {UNINFORMED} "
        "for always saying 0.5, and how many were scored. Evidence: pieces cited by a claim. Unsupported: places in "
        "claims that the record does not support. Price: ? where none is known."
    )
    return Group(*tables, Text(told, "dim"))


def _table(found: Sequence[AgentStats]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for _ in found:
        table.add_column(justify="right", overflow="fold")
    table.add_row("agent", *(agent_text(each.role) for each in found))
    table.add_row("backend", *(styled(each.backend) for each in found))
    for label, value in ROWS:
        table.add_row(Text(label, "bold"), *(value(each) for each in found))
    return table


def _tokens(tokens: int | None, part: int | None, word: str) -> str:
    if tokens is None:
        return UNKNOWN
    return count(tokens) + (f" ({count(part)} {word})" if part else "")


def _latency(milliseconds: float | None) -> str:
    if milliseconds is None:
        return MISSING
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else duration(milliseconds / 1000)

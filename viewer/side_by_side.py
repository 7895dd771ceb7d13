"""Two sessions side by side on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.ledger.read.across.compare import (
    NAMES,
    Difference,
    Paired,
    RoundPair,
    RoundSide,
    SessionComparison,
    Side,
)
from learning_signal.viewer.text import MISSING, clean, count, duration, limit_text, number, outcome_text, styled

SHOWN = 6
"""Settings that are listed; the others are counted."""


def render_comparison(found: SessionComparison) -> Group:
    """The comparison for a terminal of 100 columns."""
    parts: list[RenderableType] = [_sides(found), *_settings(found)]
    for each in found.rounds:
        parts += [Text(), Text(f"Round {each.round}", "bold"), Padding(_round(each), (0, 0, 0, 2))]
    pairs = [pair for each in found.rounds for pair in each.paired]
    return Group(*parts, Text(), Text(_closing(found, pairs), "dim"))


def _sides(found: SessionComparison) -> Table:
    sides = (found.first, found.second)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in NAMES:
        table.add_column(name, overflow="fold")
    rows: list[tuple[str, Callable[[Side], str | None]]] = [
        ("session", lambda side: side.session),
        ("task", lambda side: f"{side.task}, {side.algorithm}, seed {side.seed}"),
        ("status", lambda side: side.status),
        *((role, _backend(role)) for role in dict.fromkeys([*sides[0].backends, *sides[1].backends])),
        ("sparse return of HEAD", lambda side: number(side.sparse_return)),
        ("progress of HEAD", lambda side: number(side.progress)),
        ("measured on", lambda side: side.episode_set and f"{side.episode_set} episodes"),
        ("env steps of HEAD", lambda side: count(side.env_steps)),
        ("total env steps of training", lambda side: count(side.total_env_steps)),
        ("env steps of evaluation", lambda side: count(side.evaluation_env_steps)),
        ("tokens (in + out)", lambda side: f"{count(side.tokens_in)} + {count(side.tokens_out)}"),
        ("price", lambda side: MISSING if side.cost_usd is None else limit_text("usd", side.cost_usd)),
        ("time", lambda side: duration(side.wall_seconds)),
    ]
    for label, value in rows:
        table.add_row(Text(label, "bold"), *(styled(value(side)) for side in sides))
    return table


def _backend(role: str) -> Callable[[Side], str | None]:
    return lambda side: side.backends.get(role)


def _settings(found: SessionComparison) -> list[Text]:
    """A line of the settings that differ, where any does."""
    if not found.settings:
        return []
    listed = [f"{name} {values[0]} / {values[1]}" for name, values in list(found.settings.items())[:SHOWN]]
    more = len(found.settings) - len(listed)
    return [Text(), Text(f"Other settings: {clean('; '.join(listed))}" + (f"; and {more} more" if more else ""))]


def _round(pair: RoundPair) -> Group:
    parts: list[RenderableType] = [
        Text.assemble(f"{name}: ", _did(side)) for name, side in zip(NAMES, (pair.first, pair.second), strict=True)
    ]
    for each in pair.paired:
        parts += _paired(each)
    if pair.why_not is not None:
        parts.append(Text(f"not paired: {pair.why_not}", "dim"))
    return Group(*parts)


def _did(side: RoundSide | None) -> Text:
    if side is None:
        return Text("has not decided this round", "dim")
    line = outcome_text(side.action)
    if side.candidate is not None:
        gains = ", ".join(f"{name.replace('_', ' ')} {number(value, sign=True)}" for name, value in side.gains.items())
        line = Text.assemble(line, f"; {clean(side.candidate)} ", outcome_text(side.outcome))
        line.append(f", against its own control: {gains}")
    return line


def _paired(pair: Paired) -> list[RenderableType]:
    """The differences of a pair of candidates, branch by branch, and what may be concluded."""
    title = f"{clean(pair.first)} of the first minus {clean(pair.second)} of the second, branch by branch"
    if pair.same_shaping:
        return [Text(f"{title}: both are the same shaping")]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("pair", *(measure.replace("_", " ") for measure in pair.differences)):
        table.add_column(name, justify="right")
    for index in range(pair.n):
        values = (difference.values[index] for difference in pair.differences.values())
        table.add_row(str(index + 1), *(number(value, sign=True) for value in values))
    lines = [_summary(measure, difference) for measure, difference in pair.differences.items()]
    left = [f"{more - pair.n} of the {name}" for more, name in zip(pair.branches, NAMES, strict=True) if more > pair.n]
    tail = [Text(f"without a partner: {', '.join(left)}", "dim")] if left else []
    return [Text(title), table, *lines, *tail]


def _summary(measure: str, difference: Difference) -> Text:
    n = len(difference.values)
    line = Text.assemble(
        f"{measure.replace('_', ' ')}: mean ",
        (number(difference.mean, sign=True), "bold"),
        f", the first is higher in {difference.above} of {n}",
    )
    if n > 1:
        between = f"{number(difference.low, sign=True)} to {number(difference.high, sign=True)}"
        line.append(f"; the median is in {between} with probability {number(difference.level)}")
    return line.append(f". {difference.conclusion}")


def _closing(found: SessionComparison, pairs: Sequence[Paired]) -> str:
    if not pairs:
        return (
            "Nothing pairs, so only the final results can be laid side by side: two single runs, whose difference may "
            "be chance."
        )
    return (
        "Branches of a pair share checkpoint, seed and held-out episodes: their shapings alone differ. Each gate "
        "stopped once it was decided, so the number of pairs was not fixed before: this describes, it does not test. "
        "The final results are two single runs."
    )

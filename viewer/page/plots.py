"""Comparisons as pictures: every branch of every arm as a dot, in both measures, and the mean of an arm as a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from learning_signal.ledger.read.records import ComparisonRow
from learning_signal.viewer.comparisons import CONTROL, MEASURES
from learning_signal.viewer.reports.study_plot import round_axis
from learning_signal.viewer.text import clean, number

WIDTH, ROW, LEFT, TOP, GAP = 300, 30, 74, 26, 72
"""Of a panel and a row of it, in pixels."""
RADIUS = 4.5


def arms_plot(comparison: ComparisonRow) -> str:
    """An SVG with a panel for each measure and a row for each arm; empty where no branch has a measure."""
    arms: Mapping[str, Sequence[Mapping[str, Any]]] = comparison.inputs.get("arms") or {}
    names = [CONTROL, *(name for name in arms if name != CONTROL)] if CONTROL in arms else list(arms)
    panels = []
    for measure in MEASURES:
        values = {
            name: [seed[measure] for seed in arms[name] if isinstance(seed.get(measure), int | float)] for name in names
        }
        if any(values.values()):
            panels.append((measure.replace("_", " "), values))
    if not panels:
        return ""
    width, height = LEFT + len(panels) * (WIDTH + GAP), TOP + ROW * len(names) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'class="arms" role="img" aria-label="{escape(_words(panels))}">'
    ]
    for index, (measure, values) in enumerate(panels):
        parts += _panel(measure, values, LEFT + index * (WIDTH + GAP), names if index == 0 else [])
    return "".join([*parts, "</svg>"])


def _panel(measure: str, values: Mapping[str, Sequence[float]], left: int, names: Sequence[str]) -> list[str]:
    known = [value for each in values.values() for value in each]
    low, high = min(known), max(known)
    bottom, top = round_axis(low, high) if low < high else (low - 0.5, high + 0.5)

    def x(value: float) -> float:
        return left + WIDTH * (value - bottom) / (top - bottom)

    height = ROW * len(values)
    parts = [f'<text class="ink" x="{left}" y="14">{escape(measure)}</text>']
    for value in (bottom, (bottom + top) / 2, top):
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{TOP + height}"/>')
        parts.append(
            f'<text class="ink" x="{x(value):.1f}" y="{TOP + height + 16}" text-anchor="middle">{value:.3g}</text>'
        )
    for row, (name, each) in enumerate(values.items()):
        y = TOP + ROW * row + ROW / 2
        kind = "control" if name == CONTROL else "candidate"
        if names:
            parts.append(
                f'<text class="ink" x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(clean(name))}</text>'
            )
        parts += [f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y}" r="{RADIUS}"/>' for value in each]
        if each:
            mean = x(sum(each) / len(each))
            parts.append(f'<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="{y - 10}" y2="{y + 10}"/>')
            told = number(sum(each) / len(each))
            parts.append(f'<text class="ink" x="{left + WIDTH + 8}" y="{y + 4}">{told}</text>')
    return parts


def _words(panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> str:
    """The picture in words, for screen readers."""
    said = [
        f"{measure} of {clean(name)}: {', '.join(number(value) for value in each) or 'none'}"
        for measure, values in panels
        for name, each in values.items()
    ]
    return "; ".join(said)

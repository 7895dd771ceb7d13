"""The plot of a study as SVG: sparse return over total env steps of training per arm, a panel per task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#7f3c8d", "#8c6d31", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart, and three more."""
WIDTH, HEIGHT = 420, 280
"""Of a panel's axes, in pixels."""
LEFT, TOP, GAP, BOTTOM, LEGEND = 56, 44, 48, 46, 120
FONT = 'font-family="system-ui, sans-serif" font-size="12"'

STUDY_STEPS = (1, 2, 2.5, 5, 10, 20)
"""Round steps of an axis, times a power of ten."""
BandPoint = tuple[float, float, float | None, float | None]
"""Env steps, mean, and the interval's ends, which a single run does not have."""


def draw(report: Mapping[str, Any]) -> str:
    """An SVG document of the report on a study (plain data); arms without a number are named and not drawn."""
    tasks, bands = report["tasks"], report["bands"]
    colours = dict(zip(report["arms"], (COLOURS * 2)[: len(report["arms"])], strict=True))
    width, height = LEFT + len(tasks) * (WIDTH + GAP) + LEGEND, TOP + HEIGHT + BOTTOM
    longest = max([report["env_steps"], *(band["points"][-1][0] for band in bands)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, task in enumerate(tasks):
        mine = [band for band in bands if band["task"] == task["task"]]
        axis = _axis([point for band in mine for point in band["points"]], task["max_return"])
        parts.append(f'<g transform="translate({LEFT + number * (WIDTH + GAP)} {TOP})" {FONT} fill="#333333">')
        parts += _axes(task["task"], longest, axis, label=number == 0)
        for band in mine:
            parts += _line(band["points"], longest, axis, colours[band["arm"]])
        parts.append("</g>")
    drawn = {band["arm"] for band in bands}
    parts.append(f'<g transform="translate({width - LEGEND} {TOP})" {FONT}>')
    for row, (arm, colour) in enumerate(colours.items()):
        note = "" if arm in drawn else " (none)"
        parts.append(f'<text y="{10 + 18 * row}" fill="{colour}" font-weight="600">{escape(arm)}{note}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _axis(points: Sequence[BandPoint], max_return: float) -> tuple[float, float]:
    """The least and the largest return of a panel: from 0, or from below it where a mean is negative, in four round
    steps.
    """
    values = [value for _, mean, low, high in points for value in (mean, low, high) if value is not None]
    lowest = min(values) if any(mean < 0 for _, mean, _, _ in points) else 0.0
    highest = min(max_return, max([*values, 0.0]))
    return (lowest, max_return) if highest <= lowest else round_axis(lowest, highest, STUDY_STEPS)


def round_axis(
    lowest: float, highest: float, steps: Sequence[float] = (1, 2, 2.5, 3, 5, 10, 20)
) -> tuple[float, float]:
    """Four round steps that hold ``lowest`` and ``highest``, the greater of the two: (least, largest)."""
    power = 10.0 ** math.floor(math.log10((highest - lowest) / 4))
    for step in (factor * power for factor in steps):
        bottom = math.floor(1.02 * lowest / step) * step
        if bottom + 4 * step >= 1.02 * highest:
            break
    return bottom, bottom + 4 * step


def _axes(task: str, longest: int, axis: tuple[float, float], label: bool) -> list[str]:
    bottom, top = axis
    parts = [f'<text x="0" y="-16" font-size="13" font-weight="600">{escape(task)}</text>']
    for quarter in range(5):
        y, x = HEIGHT * (1 - quarter / 4), WIDTH * quarter / 4
        parts.append(f'<line x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{bottom + (top - bottom) * quarter / 4:.3g}</text>')
        words = f"{longest * quarter / 4e6:.3g} M" if quarter else "0"
        parts.append(f'<text x="{x}" y="{HEIGHT + 18}" text-anchor="middle">{words}</text>')
    words = "total env steps of training, branches included"
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 38}" text-anchor="middle">{words}</text>')
    if label:
        parts.append(
            f'<text transform="translate(-44 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">sparse return</text>'
        )
    return parts


def _line(points: Sequence[BandPoint], longest: int, axis: tuple[float, float], colour: str) -> list[str]:
    """The mean as a line and its interval, where there is one, as a band inside the panel."""
    bottom, top = axis

    def at(steps: float, value: float) -> str:
        height = (value - bottom) / (top - bottom)
        return f"{WIDTH * steps / longest:.1f},{HEIGHT * (1 - min(max(height, 0), 1)):.1f}"

    mean = " ".join(at(steps, value) for steps, value, _, _ in points)
    line = f'<polyline points="{mean}" fill="none" stroke="{colour}" stroke-width="2"/>'
    if points[0][2] is None:
        return [line]
    upper = [at(steps, high) for steps, _, _, high in points if high is not None]
    lower = [at(steps, low) for steps, _, low, _ in points if low is not None]
    band = f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colour}" fill-opacity="0.12"/>'
    return [band, line]

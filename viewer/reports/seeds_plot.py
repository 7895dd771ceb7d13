"""The plot of several sessions as SVG: a line per session, and per configuration the median over seeds in a band."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from learning_signal.ledger.read.across.seeds import SeedCurves, TaskCurves
from learning_signal.viewer.reports.session_plot import BOTTOM, HEIGHT, LEFT, RIGHT, STYLE, WIDTH, axes, measure_name
from learning_signal.viewer.reports.study_plot import COLOURS, round_axis
from learning_signal.viewer.text import clean

TOP, ROW = 44, 18
"""Above the legend, and a line of it, in pixels."""


def draw_sessions(task: TaskCurves) -> str:
    """An SVG document."""
    longest = max(curve.total_env_steps for group in task.groups for curve in group.curves) or 1
    values = [0.0, *(value for group in task.groups for curve in group.curves for _, value in curve.points)]
    bottom, top = round_axis(min(values), max(values)) if min(values) < max(values) else (0.0, 1.0)
    above = TOP + ROW * len(task.groups)
    width, height = LEFT + WIDTH + RIGHT, above + HEIGHT + BOTTOM

    def at(steps: float, value: float) -> str:
        return f"{WIDTH * steps / longest:.1f},{HEIGHT * (1 - (value - bottom) / (top - bottom)):.1f}"

    title = f"{task.task}: {sum(len(group.curves) for group in task.groups)} sessions"
    said = "; ".join([title, *(_legend(group) for group in task.groups)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(clean(said))}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<g transform="translate({LEFT} {above})" font-family="system-ui, sans-serif" font-size="12" class="ink">',
        f'<text y="{24 - above}" font-size="13" font-weight="600">{escape(clean(title))}</text>',
    ]
    names = measure_name(task.measure, task.episode_set)
    parts += axes(longest, (bottom, top), "total env steps of training, branches included; thin: one session", names)
    for number, group in enumerate(task.groups):
        colour = COLOURS[number % len(COLOURS)]
        y = 24 - above + ROW * (number + 1)
        parts.append(f'<text y="{y}" fill="{colour}" font-weight="600">{escape(clean(_legend(group)))}</text>')
        if group.band:
            edges = [at(each.total_env_steps, each.high) for each in group.band]
            edges += [at(each.total_env_steps, each.low) for each in reversed(group.band)]
            parts.append(f'<polygon points="{" ".join(edges)}" fill="{colour}" fill-opacity="0.15"/>')
            parts.append(_line([at(each.total_env_steps, each.median) for each in group.band], colour, 2.5))
        for curve in group.curves:
            parts.append(_line([at(*point) for point in curve.points], colour, 0.8 if group.band else 2))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _line(points: Sequence[str], colour: str, width: float) -> str:
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def _legend(group: SeedCurves) -> str:
    """Who it is, how many, and what the band is."""
    seeds = ", ".join(map(str, group.seeds))
    if len(group.seeds) == 1:
        return f"{group.label}: one session, seed {seeds}"
    said = f"{group.label}: median of {len(group.seeds)} seeds ({seeds})"
    if group.level is None:
        return f"{said}, which have no env steps in common"
    return f"{said}; band: holds the median with probability {group.level:.3g}"

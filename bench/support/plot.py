"""Draws learning curves as SVG: one panel per task, one line per learner, the range of its seeds as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
WIDTH, HEIGHT = 300, 220
"""Of a panel's axes, in pixels."""
LEFT, TOP, GAP, BOTTOM = 48, 44, 36, 46
FONT = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True)
class Point:
    """One evaluation."""

    env_steps: int
    share: float
    """Mean return as a share of the task's maximum."""
    seconds: float
    """Of one core, until then."""


@dataclass(frozen=True)
class Curve:
    """All seeds of one task and learner, evaluated at the same env steps."""

    task: str
    learner: str
    seeds: tuple[tuple[Point, ...], ...]
    """The evaluations of every seed, oldest first."""


def draw(curves: Sequence[Curve], solved: float, others: Mapping[str, Mapping[int, float]]) -> str:
    """An SVG document. ``solved`` is a dashed line; ``others`` are single published points ``{env steps: share}``."""
    tasks = list(dict.fromkeys(curve.task for curve in curves))
    width, height = LEFT + len(tasks) * (WIDTH + GAP), TOP + HEIGHT + BOTTOM
    longest = max(points[-1].env_steps for curve in curves for points in curve.seeds)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, task in enumerate(tasks):
        parts.append(f'<g transform="translate({LEFT + number * (WIDTH + GAP)} {TOP})" {FONT} fill="#333333">')
        parts += _axes(task, longest, solved, label=number == 0)
        for index, curve in enumerate([curve for curve in curves if curve.task == task]):
            parts += _line(curve, longest, COLOURS[index % len(COLOURS)], 16 * index)
        parts += [
            f'<circle cx="{_x(steps, longest):.1f}" cy="{_y(share):.1f}" r="4" fill="#ffffff" stroke="#333333" '
            f'stroke-width="1.5"><title>EPyMARL MAPPO, one seed: {share:g}</title></circle>'
            for steps, share in others.get(task, {}).items()
        ]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _x(env_steps: int, longest: int) -> float:
    return WIDTH * env_steps / longest


def _y(share: float) -> float:
    return HEIGHT * (1 - share)


def _axes(task: str, longest: int, solved: float, label: bool) -> list[str]:
    parts = [f'<text x="0" y="-16" font-size="13" font-weight="600">{escape(task)}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        parts.append(f'<line x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{share:g}</text>')
    for quarter in range(5):
        steps = longest * quarter / 4
        words = f"{steps / 1e3:.0f} k" if steps else "0"
        parts.append(f'<text x="{WIDTH * quarter / 4}" y="{HEIGHT + 18}" text-anchor="middle">{words}</text>')
    dashed = f'<line x2="{WIDTH}" y1="{_y(solved)}" y2="{_y(solved)}" stroke="#888888" stroke-dasharray="4 4"/>'
    parts += [dashed, f'<text x="{WIDTH / 2}" y="{HEIGHT + 38}" text-anchor="middle">env steps</text>']
    if label:
        turn = f'transform="translate(-36 {HEIGHT / 2}) rotate(-90)"'
        parts.append(f'<text {turn} text-anchor="middle">share of the maximum return</text>')
    return parts


def _line(curve: Curve, longest: int, colour: str, down: int) -> list[str]:
    """Mean line, band from the lowest to the highest seed, and a name at the lower right."""
    columns = list(zip(*curve.seeds, strict=True))
    steps = [_x(column[0].env_steps, longest) for column in columns]
    shares = [[point.share for point in column] for column in columns]
    high = [f"{x:.1f},{_y(max(each)):.1f}" for x, each in zip(steps, shares, strict=True)]
    low = [f"{x:.1f},{_y(min(each)):.1f}" for x, each in zip(steps, shares, strict=True)]
    mean = [f"{x:.1f},{_y(sum(each) / len(each)):.1f}" for x, each in zip(steps, shares, strict=True)]
    return [
        f'<polygon points="{" ".join(high + low[::-1])}" fill="{colour}" fill-opacity="0.18"/>',
        f'<polyline points="{" ".join(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 56 + down}" text-anchor="end" fill="{colour}" font-weight="600">'
        f"{escape(curve.learner)}</text>",
    ]

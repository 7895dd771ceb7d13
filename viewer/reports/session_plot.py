"""The plot of a session as SVG: HEAD's returns or progress over total env steps, and what its rounds decided."""

from __future__ import annotations

import math
from html import escape

from learning_signal.ledger.read.tables.curve import Decision, SessionCurve
from learning_signal.viewer.reports.study_plot import round_axis
from learning_signal.viewer.text import clean, number

WIDTH, HEIGHT = 720, 260
"""Of the axes, in pixels."""
LEFT, TOP, RIGHT, BOTTOM = 60, 92, 28, 52
LABEL, RAISED = 150, 28
"""Width of a label, and how much higher one stands that would lie on the one before it."""
MARKS = {"promote": ("▲", "good"), "keep": ("●", "open"), "roll_back": ("▼", "bad")}
"""Shape and colour class of a decision."""
STYLE = """
  .paper { fill: #ffffff } .ink { fill: #333333 } .grid { stroke: #e4e4e4 } .round { fill: #0072b2; fill-opacity: 0.08 }
  .curve { stroke: #0072b2; fill: none; stroke-width: 2 } .stage { fill: #0072b2 }
  .good { fill: #00795a } .open { fill: #6b6b6b } .bad { fill: #c44500 } .stem { stroke: #999999 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .ink { fill: #d0d7de } .grid { stroke: #2b323b }
    .round { fill: #56b4e9; fill-opacity: 0.14 }
    .curve { stroke: #56b4e9 } .stage { fill: #56b4e9 } .good { fill: #3fc79a } .open { fill: #a9b1ba }
    .bad { fill: #ff8a4c } .stem { stroke: #6b7480 }
  }
"""
"""Colours for light and dark pages; the picture brings its own background, so both can be read anywhere."""


def draw(curve: SessionCurve, *, links: bool = False) -> str:
    """An SVG document; a session without an evaluation has axes and decisions, and no line.

    With ``links`` the marks of decisions lead to ``#R1``, ``#R2`` ... of the page that the picture stands in.
    """
    width, height = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM
    longest = max(curve.total_env_steps, 1)
    values = [0.0, *(value for _, value in curve.points)]
    bottom, top = round_axis(min(values), max(values)) if min(values) < max(values) else (0.0, 1.0)

    def x(env_steps: float) -> float:
        return WIDTH * env_steps / longest

    def y(value: float) -> float:
        return HEIGHT * (1 - (value - bottom) / (top - bottom))

    line = " ".join(f"{x(steps):.1f},{y(value):.1f}" for steps, value in curve.points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="{"group" if links else "img"}" aria-label="{escape(_words(curve))}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<g transform="translate({LEFT} {TOP})" font-family="system-ui, sans-serif" font-size="12" class="ink">',
        f'<text y="{24 - TOP}" font-size="13" font-weight="600">{escape(clean(curve.title))}</text>',
        *(
            f'<rect class="round" x="{x(each.begin):.1f}" width="{x(each.end - each.begin):.1f}" height="{HEIGHT}"/>'
            for each in curve.decisions
        ),
        *axes(longest, (bottom, top), _below(curve), measure_name(curve.measure, curve.episode_set)),
    ]
    if line:
        parts.append(f'<polyline class="curve" points="{line}"/>')
    parts += [f'<circle class="stage" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>' for a, b in curve.stages]
    before, raised = float(-LABEL), False
    for decision in curve.decisions:
        raised = x(decision.end) - before < LABEL and not raised
        before = x(decision.end)
        mark = _mark(decision, before, y(_value_at(curve, decision.end, bottom)), RAISED if raised else 0)
        parts += [f'<a href="#R{decision.round}">', *mark, "</a>"] if links else mark
    return "\n".join([*parts, "</g>", "</svg>", ""])


def ends(curve: SessionCurve) -> str:
    """Where the curve begins and ends, in a sentence."""
    first, last = (number(value) for _, value in (curve.points[0], curve.points[-1]))
    measure = measure_name(curve.measure, curve.episode_set).capitalize()
    return f"{measure} of HEAD: {first} at its first evaluation, {last} at its last."


def axes(longest: int, between: tuple[float, float], below: str, beside: str) -> list[str]:
    """The grid, from 0 to ``longest`` env steps and ``between`` two values, and the words below and beside it."""
    parts, (bottom, top) = [], between
    for quarter in range(5):
        y = HEIGHT * (1 - quarter / 4)
        parts.append(f'<line class="grid" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{bottom + (top - bottom) * quarter / 4:.3g}</text>')
    for tick in _ticks(longest):
        x = WIDTH * tick / longest
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 18}" text-anchor="middle">{_steps(tick)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT + 40}" text-anchor="middle">{below}</text>')
    turn = f'transform="translate(-44 {HEIGHT / 2}) rotate(-90)"'
    return [*parts, f'<text {turn} text-anchor="middle">{beside}</text>']


def _below(curve: SessionCurve) -> str:
    if curve.decisions:
        return "total env steps of training, branches included; shaded: a round and its branches; dots: ends of stages"
    return "total env steps of training; dots: ends of stages"


def measure_name(measure: str, episode_set: str) -> str:
    """What is drawn: the measure, and its episodes where they are not those of the report."""
    name = measure.replace("_", " ")
    return name if episode_set == "report" else f"{name} ({escape(episode_set)} episodes)"


def _ticks(longest: int) -> list[float]:
    """At most six round numbers from 0 to ``longest``."""
    power = 10.0 ** math.floor(math.log10(longest))
    step = next(step for step in (power * factor for factor in (0.2, 0.5, 1, 2)) if longest / step < 6)
    return [step * number for number in range(math.floor(longest / step) + 1)]


def _steps(value: float) -> str:
    for factor, letter in ((1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _mark(decision: Decision, x: float, y: float, raised: int) -> list[str]:
    """A stem from the curve to a label of two lines above the panel, which ends where the decision was taken."""
    shape, colour = MARKS[decision.action]
    action = decision.action.replace("_", " ")
    text = [f"{shape} R{decision.round} {action}", clean(decision.subject)]
    label = f'class="{colour}" x="{x:.1f}" text-anchor="{"end" if x > 40 else "start"}"'
    return [
        f'<line class="stem" x1="{x:.1f}" x2="{x:.1f}" y1="{-8 - raised}" y2="{y:.1f}"/>',
        f'<text class="{colour}" x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" font-size="15">{shape}</text>',
        f'<text {label} y="{-30 - raised}" font-weight="600">{escape(text[0])}</text>',
        f'<text {label} y="{-14 - raised}">{escape(text[1])}</text>',
    ]


def _value_at(curve: SessionCurve, env_steps: float, default: float) -> float:
    """The last sparse return at or before ``env_steps``."""
    return next((value for steps, value in reversed(curve.points) if steps <= env_steps), default)


def _words(curve: SessionCurve) -> str:
    """The picture in words, for screen readers."""
    decided = ", ".join(f"round {each.round}: {each.action} {each.subject}".strip() for each in curve.decisions)
    measure = curve.measure.replace("_", " ").capitalize()
    return clean(f"{measure} over total env steps of training. {curve.title}. {decided or 'No round was decided.'}")

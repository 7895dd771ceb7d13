"""What a task looks like as SVG, and Phi over it.

What comes in is plain data: scenes and fields as ``marl.behaviour.drawn.scene`` describes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from learning_signal.ledger.read.records import DecisionChain
from learning_signal.viewer.page.heat import LEVELS, Range, colours, levels, png, range_of
from learning_signal.viewer.text import clean, number, shaping_line

BEFORE = "before"
"""What the shaping in use before a round is called among its fields; the others by the id of their candidate."""
SIDE = 300
"""Of a scene, across, in the units of its SVG."""
COLOURS = ("agent", "other", "goal", "done", "wall", "floor", "ink")
START = "start-scene"
"""The id of the scene that all fields of a page are drawn over."""


@dataclass(frozen=True)
class FieldPart:
    """A shaping as a picture."""

    title: str
    formula: str
    picture: str
    legend: str


def field_parts(scene: Mapping[str, Any], fields: Mapping[str, Any], chain: DecisionChain) -> tuple[FieldPart, ...]:
    """The shapings of a round over the start of an episode: of the one before and of all candidates that have one."""
    from markupsafe import Markup

    named = [(BEFORE, "in use before", chain.decision.shaping_from)]
    named += [(each.id, each.name, each.shaping) for each in chain.candidates]
    return tuple(
        FieldPart(
            clean(title),
            shaping_line(shaping),
            Markup(field_picture(scene, fields[key], f"Phi of {title} at the start of an episode")),  # noqa: S704
            Markup(legend(range_of(fields[key]["values"]), f"Phi of agent {fields[key]['agent']}")),  # noqa: S704
        )
        for key, title, shaping in named
        if key in fields
    )


def size(scene: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a scene's SVG."""
    return SIDE, round(SIDE * scene["height"] / scene["width"])


def fragments(scene: Mapping[str, Any]) -> list[str]:
    """An SVG element for each shape of a scene, with its label."""
    return [_shape(shape, SIDE / scene["width"]) for shape in scene["shapes"]]


def _shape(shape: Sequence[Any], scale: float) -> str:
    kind, *place, colour, label = shape
    x, y, reach = (f"{scale * value:.1f}".removesuffix(".0") for value in place)
    name = colour if colour in COLOURS else "ink"
    if kind == "disc":
        drawn = f'<circle class="d-{name}" cx="{x}" cy="{y}" r="{reach}"/>'
    else:
        corner = (f"{scale * (value - place[2]):.1f}" for value in place[:2])
        left, top = corner
        side = f"{2 * scale * place[2]:.1f}"
        drawn = f'<rect class="d-{name}" x="{left}" y="{top}" width="{side}" height="{side}"/>'
    words = clean(label)
    if not words:
        return drawn
    font = f"{1.3 * scale * place[2] / max(1.0, 0.6 * len(words)):.0f}"
    return (
        f'{drawn}<text class="on-{name}" x="{x}" y="{y}" font-size="{font}" text-anchor="middle" '
        f'dominant-baseline="central">{escape(words)}</text>'
    )


def start_scene(scene: Mapping[str, Any]) -> str:
    """The scene that ``field_picture`` refers to, invisible itself."""
    drawn = fragments(scene)
    shapes = "".join([*(drawn[place] for place in scene["frames"][0]), ring(scene, 0)])
    return (
        '<svg class="defs" width="0" height="0" aria-hidden="true"><defs>'
        f'<g id="{START}" class="on-field">{shapes}</g></defs></svg>'
    )


def ring(scene: Mapping[str, Any], frame: int) -> str:
    """An SVG element that marks the agent whose place a field varies; empty where agents have no place."""
    if not scene["places"]:
        return ""
    x, y = (SIDE / scene["width"] * value for value in scene["places"][frame])
    return f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{SIDE / 18:.0f}"/>'


def field_picture(scene: Mapping[str, Any], field: Mapping[str, Any], words: str) -> str:
    """A field at the start of an episode under the scene of that moment; ``words`` say what it is of."""
    width, height = size(scene)
    values = field["values"][0]
    bounds = range_of([values]) or (0.0, 0.0)
    return (
        f'<svg class="drawn on-field" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(clean(words))}">'
        f'{image(scene, field, png(levels(values, bounds), field["columns"]))}<use href="#{START}"/></svg>'
    )


def image(scene: Mapping[str, Any], field: Mapping[str, Any], source: str = "") -> str:
    """The SVG element that shows a field, whose picture is in ``source``; cells of a plane run into one another."""
    scale = SIDE / scene["width"]
    width, height = (round(scale * field["cell"] * field[side], 1) for side in ("columns", "rows"))
    kind = "plane" if field["plane"] else "board"
    return (
        f'<image class="{kind}" width="{width}" height="{height}" preserveAspectRatio="none" href="{escape(source)}"/>'
    )


def legend(bounds: Range | None, of: str) -> str:
    """The scale of a field in words and colours."""
    words = escape(clean(of))
    if bounds is None:
        return f"{words}: it can be nowhere else"
    low, high = bounds
    if low == high:
        return f"{words}: {number(low)} everywhere"
    return f'{words}: <span class="whole">{number(low)} {_bar()} {number(high)}</span>'


@cache
def _bar() -> str:
    """The colours from low to high."""
    boxes = "".join(
        f'<rect x="{6 * place}" width="6" height="10" fill="#{red:02x}{green:02x}{blue:02x}"/>'
        for place, (red, green, blue) in enumerate(colours())
    )
    return f'<svg class="scale" width="{6 * LEVELS}" height="10" aria-hidden="true">{boxes}</svg>'

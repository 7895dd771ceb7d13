"""What an SVG of the viewer is made of: its shapes in absolute places, with the colours of a light page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

NAMESPACE = "{http://www.w3.org/2000/svg}"
Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """A line, a closed polygon, or a circle; places and widths in pixels, from the top left corner."""

    kind: str
    """line, polygon or circle."""
    points: tuple[Point, ...]
    """Of a circle: its centre."""
    fill: Colour | None = None
    opacity: float = 1.0
    """Of the filling, 0 to 1."""
    stroke: Colour | None = None
    width: float = 1.0
    radius: float = 0.0


@dataclass(frozen=True)
class Words:
    """A line of text; ``at`` is where its baseline begins, is centred or ends."""

    text: str
    at: Point
    size: float
    """Pixels."""
    anchor: str
    """start, middle or end."""
    bold: bool
    upright: bool
    """Whether it is written upwards."""
    colour: Colour


@dataclass(frozen=True)
class Drawing:
    """A picture of ``width`` by ``height`` pixels, its parts from the lowest to the highest."""

    width: float
    height: float
    parts: tuple[Shape | Words, ...]


def read(svg: str) -> Drawing:
    """The parts of an SVG document that a function of the viewer drew.

    Raises:
        ValueError: it has an element that no picture of the viewer has.
    """
    root = ET.fromstring(svg)  # noqa: S314 - drawn by the viewer itself, which escapes every text
    style = "".join(each.text or "" for each in root.iter(f"{NAMESPACE}style"))
    classes = _classes(style.split("@media")[0])
    parts: list[Shape | Words] = []
    _collect(root, {"fill": "#000000"}, (0.0, 0.0), classes, parts)
    return Drawing(float(root.get("width", 0)), float(root.get("height", 0)), tuple(parts))


def _classes(style: str) -> dict[str, dict[str, str]]:
    return {
        name: dict(part.split(":", 1) for part in body.replace(" ", "").split(";") if part)
        for name, body in re.findall(r"\.([\w-]+)\s*\{([^}]*)\}", style)
    }


def _collect(
    element: ET.Element,
    inherited: Mapping[str, str],
    origin: Point,
    classes: Mapping[str, Mapping[str, str]],
    parts: list[Shape | Words],
) -> None:
    looks = {**inherited, **element.attrib, **classes.get(element.get("class", ""), {})}
    moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
    x, y = (origin[0] + float(moved[1]), origin[1] + float(moved[2])) if moved else origin
    kind = element.tag.removeprefix(NAMESPACE)

    def number(name: str, default: float = 0.0) -> float:
        return float(element.get(name, default))

    fill, stroke = _colour(looks.get("fill")), _colour(looks.get("stroke"))
    width, opacity = float(looks.get("stroke-width", 1)), float(looks.get("fill-opacity", 1))
    if kind in ("svg", "g", "a"):
        passed: dict[str, str] = {name: looks[name] for name in ("fill", "font-size", "font-weight") if name in looks}
        for child in element:
            _collect(child, passed, (x, y), classes, parts)
    elif kind == "rect":
        left, top, right, bottom = x + number("x"), y + number("y"), number("width"), number("height")
        corners = ((left, top), (left + right, top), (left + right, top + bottom), (left, top + bottom))
        parts.append(Shape("polygon", corners, fill, opacity, stroke, width))
    elif kind == "line":
        ends = ((x + number("x1"), y + number("y1")), (x + number("x2"), y + number("y2")))
        parts.append(Shape("line", ends, stroke=stroke, width=width))
    elif kind in ("polyline", "polygon"):
        pairs = [pair.split(",") for pair in element.get("points", "").split()]
        points = tuple((x + float(a), y + float(b)) for a, b in pairs)
        filled = fill if kind == "polygon" else None
        parts.append(Shape(kind.replace("polyline", "line"), points, filled, opacity, stroke, width))
    elif kind == "circle":
        centre = ((x + number("cx"), y + number("cy")),)
        parts.append(Shape("circle", centre, fill, opacity, stroke, width, number("r")))
    elif kind == "text":
        upright = "rotate(-90)" in element.get("transform", "")
        size, bold = float(looks.get("font-size", 12)), looks.get("font-weight") == "600"
        at, anchor = (x + number("x"), y + number("y")), element.get("text-anchor", "start")
        parts.append(Words(element.text or "", at, size, anchor, bold, upright, fill or (0, 0, 0)))
    elif kind != "style":
        raise ValueError(f"a picture of the viewer has no <{kind}>")


def _colour(text: str | None) -> Colour | None:
    if text is None or text == "none":
        return None
    red, green, blue = (int(text[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue

"""A picture as PNG, twice as wide as its SVG, on the paper of a light page."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

from learning_signal.viewer.pictures.marks import MARKS, runs
from learning_signal.viewer.pictures.shapes import Drawing, Shape, Words

if TYPE_CHECKING:
    from PIL import Image

SCALE, OVERSAMPLING = 2, 3


def png(drawing: Drawing) -> bytes:
    """The bytes of the file."""
    from PIL import Image, ImageDraw

    wide, high = round(drawing.width * SCALE), round(drawing.height * SCALE)
    image = Image.new("RGB", (wide * OVERSAMPLING, high * OVERSAMPLING), "#ffffff")
    for part in drawing.parts:
        if isinstance(part, Shape):
            image = _shape(image, part)
    image = image.reduce(OVERSAMPLING)  # smooth edges; text is smooth by itself
    for part in drawing.parts:
        if isinstance(part, Words):
            _words(image, ImageDraw.Draw(image), part)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _shape(image: Image.Image, shape: Shape) -> Image.Image:
    from PIL import Image, ImageDraw

    factor = SCALE * OVERSAMPLING
    points = [(x * factor, y * factor) for x, y in shape.points]
    width = max(1, round(shape.width * factor))
    mask = Image.new("L", image.size, 0)
    if shape.fill is not None:
        draw = ImageDraw.Draw(mask)
        if shape.kind == "circle":
            draw.ellipse(_box(points[0], shape.radius * factor), round(255 * shape.opacity))
        elif len(points) > 2:
            draw.polygon(points, round(255 * shape.opacity))
        image.paste(shape.fill, mask=mask)
    if shape.stroke is not None and len(points) > 1:
        closed = [*points, points[0]] if shape.kind == "polygon" else points
        ImageDraw.Draw(image).line(closed, shape.stroke, width, joint="curve")
    return image


def _box(centre: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def _words(image: Image.Image, draw: Any, words: Words) -> None:
    from PIL import Image, ImageDraw

    size = words.size * SCALE
    parts = [(run, size * 0.8 if run in MARKS else _font(size).getlength(run)) for run in runs(words.text)]
    length = sum(width for _, width in parts)
    if words.upright:
        strip = Image.new("L", (max(1, round(length)), round(1.4 * size)), 0)
        ImageDraw.Draw(strip).text((0, size), words.text, 255, _font(size), anchor="ls")
        turned = strip.rotate(90, expand=True)
        x, y = words.at[0] * SCALE - size, words.at[1] * SCALE
        begin = {"start": 0.0, "middle": length / 2, "end": length}[words.anchor]
        image.paste(words.colour, (round(x), round(y + begin - length)), turned)
        return
    x = words.at[0] * SCALE - {"start": 0.0, "middle": length / 2, "end": length}[words.anchor]
    y = words.at[1] * SCALE
    for run, width in parts:
        if run in MARKS:
            outline = [(x + width * a, y - width * b) for a, b in MARKS[run].outline]
            draw.polygon(outline, words.colour)
        else:
            draw.text((x, y), run, words.colour, _font(size), anchor="ls", stroke_width=0.5 if words.bold else 0)
        x += width


@cache
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)

"""Pictures of environments, and animations of episodes as GIF files.

A task describes what it looks like as shapes in its own coordinates; how they become pixels is decided here. A task
that can only show pixels (a foreign environment) gives an array of them instead.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # a list of the tasks must not wait for what draws them
    from PIL import Image

Colour = Literal["agent", "other", "goal", "done", "wall", "floor", "ink"]
"""agent: who learns; other: who does not; goal: what is wanted; done: a goal that is met; the rest is scenery."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "agent": (0, 114, 178),
    "other": (213, 94, 0),
    "goal": (240, 228, 66),
    "done": (0, 158, 115),
    "wall": (90, 90, 90),
    "floor": (238, 238, 238),
    "ink": (20, 20, 20),
}
"""Blue, vermillion, yellow and bluish green stay apart for colour-blind readers (Okabe & Ito 2008)."""
PAPER = (255, 255, 255)

OVERSAMPLING = 3
"""Shapes are drawn so many times larger and averaged down: smooth edges."""
CAPTION_SIZE = 13
LINE_HEIGHT = 18
LAST_FRAME_MILLISECONDS = 1500


@dataclass(frozen=True)
class Shape:
    """One thing in a picture, drawn over those before it."""

    kind: Literal["disc", "square"]
    x: float
    y: float
    size: float
    """Radius of a disc, half the side of a square, in the picture's coordinates."""
    colour: Colour
    label: str = ""
    """A few characters written in the middle."""


def unsound(shape: Shape) -> str | None:
    """What of a shape cannot be drawn, in a few words; None where it can."""
    if not isinstance(shape, Shape):
        return f"a {type(shape).__name__} for a shape"
    if shape.kind not in ("disc", "square") or shape.colour not in COLOURS or not isinstance(shape.label, str):
        return f"the shape {shape}"
    try:
        return None if np.isfinite([shape.x, shape.y, shape.size]).all() else f"the shape {shape}"
    except TypeError:
        return f"the shape {shape}"


@dataclass(frozen=True)
class Picture:
    """Shapes inside ``width`` x ``height`` (x to the right, y down, both from 0), or pixels."""

    width: float
    height: float
    shapes: tuple[Shape, ...] = ()
    caption: str = ""
    pixels: np.ndarray | None = None
    """``[height, width, 3]`` uint8, instead of shapes."""


def render(picture: Picture, width: int = 360) -> np.ndarray:
    """The picture as pixels ``[height, width, 3]`` uint8, ``width`` wide, its caption (if it has one) below."""
    return np.asarray(_image(picture, width, len(_lines(picture, width))))


def animate(pictures: Sequence[Picture], path: str | Path, milliseconds: int = 120, width: int = 360) -> None:
    """Write the pictures as an endless GIF, each shown for ``milliseconds`` and the last one for 1.5 seconds.

    A picture equal to the one before it makes no new frame: that one is shown longer. Raises ``ValueError`` when there
    are no pictures or when they differ in size.
    """
    if not pictures:
        raise ValueError("animate got no pictures, expected at least one: draw the task after every step.")
    sizes = sorted({(picture.width, picture.height) for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(
            f"animate got pictures of {len(sizes)} sizes ({sizes[0]} and {sizes[-1]} among them), expected one size: "
            "draw every step of one task."
        )
    lines = max(len(_lines(picture, width)) for picture in pictures)
    first, *rest = (_indexed(_image(picture, width, lines), picture.pixels is None) for picture in pictures)
    durations = [milliseconds] * len(rest) + [LAST_FRAME_MILLISECONDS]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)


def _lines(picture: Picture, width: int) -> list[str]:
    """The caption in lines that fit: a character is about half as wide as its font is high."""
    return textwrap.wrap(picture.caption, max(1, round(2 * width / CAPTION_SIZE)))


def _image(picture: Picture, width: int, lines: int) -> Image.Image:
    """An RGB image with room for so many lines of caption."""
    from PIL import Image, ImageDraw, ImageFont

    height = round(width * picture.height / picture.width)
    image = Image.new("RGB", (width, height + LINE_HEIGHT * lines + (LINE_HEIGHT // 2 if lines else 0)), PAPER)
    if picture.pixels is None:
        image.paste(_drawn(picture, width * OVERSAMPLING, height * OVERSAMPLING).reduce(OVERSAMPLING))
    else:
        image.paste(Image.fromarray(picture.pixels).resize((width, height), Image.Resampling.LANCZOS))
    font, draw = ImageFont.load_default(CAPTION_SIZE), ImageDraw.Draw(image)
    for number, line in enumerate(_lines(picture, width)):
        draw.text((width / 2, height + LINE_HEIGHT * (number + 0.75)), line, COLOURS["ink"], font, anchor="mm")
    return image


def _drawn(picture: Picture, width: int, height: int) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, height), PAPER)
    draw, scale = ImageDraw.Draw(image), width / picture.width
    for shape in picture.shapes:
        x, y, size = shape.x * scale, shape.y * scale, shape.size * scale
        box = (x - size, y - size, x + size, y + size)
        (draw.ellipse if shape.kind == "disc" else draw.rectangle)(box, COLOURS[shape.colour])
        if shape.label:
            font = ImageFont.load_default(1.2 * size / max(1.0, 0.6 * len(shape.label)))
            draw.text((x, y), shape.label, _readable_on(COLOURS[shape.colour]), font, anchor="mm")
    return image


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Ink on light colours, paper on dark ones, by their luma (ITU-R BT.601)."""
    red, green, blue = colour
    return COLOURS["ink"] if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def _indexed(image: Image.Image, shapes: bool) -> Image.Image:
    """The image in at most 256 colours: of shapes exactly theirs and their blends, of pixels those that fit best."""
    if not shapes:
        return image.quantize(256)
    from PIL import Image

    # Pillow's own look-up in a given palette is approximate: white paper would turn grey.
    place = np.array([1 << 16, 1 << 8, 1], np.int32)
    colours = image.getcolors(image.width * image.height)
    assert colours is not None, "no image has more colours than pixels"
    seen = np.array([colour for _, colour in colours])
    nearest = np.empty(1 << 24, np.uint8)  # by colour; only those that are seen are filled in, and only they are read
    nearest[seen @ place] = np.square(seen[:, None] - _PALETTE).sum(axis=2).argmin(axis=1)
    indexed = Image.fromarray(nearest[np.asarray(image, np.int32) @ place])
    indexed.putpalette(_PALETTE.astype(np.uint8).tobytes())
    return indexed


def _palette() -> np.ndarray:
    """``[204, 3]``: every colour of a picture, and seven blends of every two for smooth edges."""
    pure = np.array([*COLOURS.values(), PAPER])
    first, second = np.triu_indices(len(pure), 1)
    share = np.arange(1, 8)[:, None, None] / 8
    blends = pure[first] + share * (pure[second] - pure[first])
    return np.concatenate([pure, blends.round().astype(np.int64).reshape(-1, 3)])


_PALETTE = _palette()

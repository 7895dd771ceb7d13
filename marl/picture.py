"""Pictures of environments, and animations of episodes as GIF files.

A task describes what it looks like as shapes in its own coordinates; how they become pixels is decided here. A task
that can only show pixels (a foreign environment) gives an array of them instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = Literal["agent", "other", "goal", "done", "wall", "floor", "ink"]
"""agent: who learns; other: who does not; goal: what is wanted; done: a goal that is met; the rest is scenery."""


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


@dataclass(frozen=True)
class Picture:
    """Shapes inside ``width`` x ``height`` (x to the right, y down, both from 0), or pixels."""

    width: float
    height: float
    shapes: tuple[Shape, ...] = ()
    caption: str = ""
    pixels: np.ndarray | None = None
    """``[height, width, 3]`` uint8, instead of shapes."""

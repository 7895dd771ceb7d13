"""The marks of decisions, which few fonts have: they are drawn where they stand in a text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """How a mark is drawn: an outline in a square of side 1 on the baseline, and its letter in PDF's ZapfDingbats."""

    outline: tuple[tuple[float, float], ...]
    dingbat: str


_ROUND = tuple(
    (0.5 + 0.42 * math.cos(turn / 16 * math.pi), 0.42 + 0.42 * math.sin(turn / 16 * math.pi)) for turn in range(32)
)
MARKS = {
    "▲": Mark(((0.08, 0.0), (0.92, 0.0), (0.5, 0.84)), "s"),
    "●": Mark(_ROUND, "l"),
    "▼": Mark(((0.08, 0.84), (0.92, 0.84), (0.5, 0.0)), "t"),
}


def runs(text: str) -> list[str]:
    """The text in pieces: marks by themselves, and what stands between them."""
    return [piece for piece in re.split(f"([{''.join(MARKS)}])", text) if piece]

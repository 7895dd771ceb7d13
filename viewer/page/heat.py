"""A field of numbers as a small picture: a PNG in a data URI, its colours from light (low) to dark (high)."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import cache

LEVELS = 15
"""Steps of the colour scale: they can be told apart, and with that for no value they fit four bits."""
_ENDS = ((250, 248, 253), (158, 148, 204), (63, 0, 125))
"""One hue that only gets darker, so that colour-blind readers see the same (after ColorBrewer's Purples)."""
NOTHING = LEVELS
"""The level of a cell without a value: transparent."""

Range = tuple[float, float]


def range_of(fields: Iterable[Sequence[float | None]]) -> Range | None:
    """The least and the largest value of some fields; None where there is none."""
    known = [value for field in fields for value in field if value is not None]
    return (min(known), max(known)) if known else None


def levels(values: Sequence[float | None], bounds: Range) -> list[int]:
    """The level of each value: 0 for the least, ``LEVELS - 1`` for the largest, ``NOTHING`` for none."""
    low, high = bounds
    span = high - low
    return [
        NOTHING if value is None else min(int((value - low) / span * LEVELS), LEVELS - 1) if span > 0 else LEVELS // 2
        for value in values
    ]


@cache
def colours() -> tuple[tuple[int, int, int], ...]:
    """The colour of each level."""
    found = []
    for level in range(LEVELS):
        place = 2 * level / (LEVELS - 1)
        first, second, share = (_ENDS[0], _ENDS[1], place) if place < 1 else (_ENDS[1], _ENDS[2], place - 1)
        red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
        found.append((red, green, blue))
    return tuple(found)


def png(cells: Sequence[int], columns: int) -> str:
    """Levels row by row as a data URI, one pixel for each."""
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    lines = b""
    for row in rows:
        even = [*row, NOTHING] if columns % 2 else row
        lines += b"\0" + bytes(high << 4 | low for high, low in zip(even[::2], even[1::2], strict=True))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, len(rows), 4, 3, 0, 0, 0)),
        (b"PLTE", bytes(part for colour in [*colours(), (0, 0, 0)] for part in colour)),
        (b"tRNS", bytes([255] * LEVELS + [0])),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()

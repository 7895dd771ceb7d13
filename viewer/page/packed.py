"""HTML in little room: a page shows the same prompts, tools and tables many times, and stores every line once.

What the script of a page puts together again: ``lines`` is all lines, one after the other; a part is the place of each
of its lines, as the distance from the place of the line before. Both are gzip in base64. (gzip alone finds what is
repeated within 32 kB; the prompt of an agent comes back further apart.)
"""

from __future__ import annotations

import base64
import gzip

BETWEEN = "\x1e"
"""Separates lines; no text of a page has it, as control characters are taken out of all."""
_ENDS = ("</p>", "</tr>", "</div>", "</summary>", "</figure>", "\n")
"""Where a line ends."""


class Packed:
    """Collects the parts of a page."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def part(self, html: str) -> str:
        """A part, to be put together with ``lines``."""
        for end in _ENDS:
            html = html.replace(end, end + BETWEEN)
        known = self._places
        places = [known.setdefault(line, len(known)) for line in html.split(BETWEEN) if line]
        return gzipped(" ".join([str(place - before) for before, place in zip([0, *places], places, strict=False)]))

    def lines(self) -> str:
        """The lines of all parts that were packed."""
        return gzipped(BETWEEN.join(self._places))


def gzipped(text: str) -> str:
    """A text, gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()

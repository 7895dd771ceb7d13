"""HTML in little room: a page shows the same prompts, tools and tables many times, and stores every line once.

What the script of a page puts together again: ``lines`` is all lines, one after the other; a part is the place of each
of its lines, as the distance from the place of the line before. Both are gzip in base64. (gzip alone finds what is
repeated within 32 kB; the prompt of an agent comes back further apart.)
"""

from __future__ import annotations

import base64
import gzip
import re

BETWEEN = "\x1e"
"""Separates lines; no text of a page has it, as control characters are taken out of all."""
_ENDS = re.compile(r"(?<=</p>)|(?<=</tr>)|(?<=</div>)|(?<=</summary>)|(?<=</figure>)|(?<=\n)")


class Packed:
    """Collects the parts of a page."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def part(self, html: str) -> str:
        """A part, to be put together with ``lines``."""
        steps, before = [], 0
        for line in filter(None, _ENDS.split(html)):
            place = self._places.setdefault(line, len(self._places))
            steps.append(place - before)
            before = place
        return gzipped(" ".join(map(str, steps)))

    def lines(self) -> str:
        """The lines of all parts that were packed."""
        return gzipped(BETWEEN.join(self._places))


def gzipped(text: str) -> str:
    """A text, gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()

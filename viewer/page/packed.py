"""HTML in little room: a page shows the same prompts, tools and tables many times, and stores every line once.

What the script of a page puts together again: ``lines`` is all lines, one after the other; a part is the place of each
of its lines, as the distance from the place of the line before. Both are gzip in base64. (gzip alone finds what is
repeated within 32 kB; the prompt of an agent comes back further apart.)
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable

BETWEEN = "\x1e"
"""Separates lines; no text of a page has it, as control characters are taken out of all."""
_ENDS = ("</p>", "</tr>", "</div>", "</summary>", "</figure>", "\n")
"""Where a line ends."""


class Packed:
    """Collects the parts of a page."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._known: dict[str, list[int]] = {}
        """The places of pieces that begin and end with a line."""

    def part(self, pieces: Iterable[str]) -> str:
        """A part, to be put together with ``lines``; ``pieces`` are its HTML, one after the other."""
        places, begun = list[int](), ""
        for piece in pieces:
            known = None if begun else self._known.get(piece)
            if known is None:
                *lines, rest = _split(begun + piece)
                known = [self._place(line) for line in lines]
                if not begun and not rest:
                    self._known[piece] = known
                begun = rest
            places += known
        if begun:
            places.append(self._place(begun))
        return gzipped(" ".join([str(place - before) for before, place in zip([0, *places], places, strict=False)]))

    def _place(self, line: str) -> int:
        return self._places.setdefault(line, len(self._places))

    def lines(self) -> str:
        """The lines of all parts that were packed."""
        return gzipped(BETWEEN.join(self._places))


def _split(html: str) -> list[str]:
    """The lines of HTML, and what follows the last of them."""
    for end in _ENDS:
        html = html.replace(end, end + BETWEEN)
    return html.split(BETWEEN)


def gzipped(text: str) -> str:
    """A text, gzip in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()

"""Standard output and error as they were given: closed, or in an encoding that lacks arrows, bars and boxes."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from typing import Any

PLAIN = "learning-signal-plain"
"""Name of the error handler that writes a plain character where an encoding lacks the right one."""
_SUBSTITUTES = {
    ord(character): plain
    for characters, plain in (
        ("→", ">"),
        ("←", "<"),
        ("≷", "~"),
        ("▣", "#"),
        ("◆◇•", "*"),
        ("✗×", "x"),
        ("✓", "v"),
        ("─━═–—−‐‑", "-"),
        ("│┃║", "|"),
        ("█▇▆▉▊▋▌", "#"),
        ("▅▄", "="),
        ("▃", "-"),
        ("▂", "."),
        ("▁", "_"),
        ("▍▎▏", " "),
        ("·…", "."),
        ("«‹", "<"),
        ("»›", ">"),
        ("±", "+"),
        ("‘’", "'"),
        ("“”„", '"'),
    )
    for character in characters
}


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replacements for characters that an encoding lacks, one for one: columns stay where they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_plain(character) for character in missing), error.end


def _plain(character: str) -> str:
    if ord(character) in _SUBSTITUTES:
        return _SUBSTITUTES[ord(character)]
    if 0x2500 <= ord(character) < 0x2580:  # the rest of box drawing: corners and crossings
        return "+"
    return next((c for c in unicodedata.normalize("NFKD", character) if c.isascii()), "?")


codecs.register_error(PLAIN, plain)


def prepare_streams() -> None:
    """Make standard output and error safe to write to, whatever was handed over.

    A closed one leads nowhere, and its number is taken: a file opened later cannot get what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # for as long as the process lives
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)

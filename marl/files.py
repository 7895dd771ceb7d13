"""Files from outside, read with a bound: regular files of at most 10 MiB, as text or TOML."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 10 * 2**20
"""No settings, shaping or description is larger."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


MOST_PARTS = 64
"""No key of a setting has as many parts; the parser's time and memory grow with their square."""
_PART = r"""(?<![\w-])(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:{_PART}\.[ \t]*){{{MOST_PARTS}}}")


class UnreadableFile(ValueError):
    """A file cannot be read; a phrase that follows its name: ``is a named pipe, expected ...: give another``."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """What a regular file holds.

    Raises:
        UnreadableFile: another kind of file (which may never end), or more than ``most`` bytes.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
            raise UnreadableFile(f"is {kind}, expected a regular file: give another")
        content = file.read(most + 1)
    if len(content) > most:
        raise UnreadableFile(f"is larger than {most / 2**20:.3g} MiB, expected a smaller file: give another")
    return content


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file, without a byte order mark. Raises as ``read_bytes``."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableFile("is not UTF-8 text, expected a TOML file: give another") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The table in TOML ``text``; ``UnreadableFile`` says what is wrong with it."""
    if _LONG_KEY.search(text):
        raise UnreadableFile(f"has a key of more than {MOST_PARTS} parts, expected a few: simplify it")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UnreadableFile("is nested too deeply, expected a few tables: simplify it") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is an integer of too many digits
        raise UnreadableFile(f"is not valid TOML ({error}): correct it there") from None

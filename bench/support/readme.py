"""Where a benchmark writes its table, between two markers of a Markdown page, and the command that it names there."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def put(text: str, name: str, readme: Path) -> None:
    """Replace what stands between the markers of ``name``; ``ValueError`` where the file has not both of them."""
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, found, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, also, after = rest.partition(end)
    if not (found and also):
        raise ValueError(f"{readme} has no lines {begin!r} and {end!r}, between which the table goes: put them in.")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def command_of(bench: str) -> str:
    """The command of this run of ``bench``, as a page tells it: a path of this machine is ``FOLDER``."""
    shown = (re.sub(r"^(--[\w-]+=)?[/~].*", r"\1FOLDER", each) for each in sys.argv[1:])
    return " ".join(["python -m bench." + bench, *shown])

"""What the terminal shows, as Markdown: the same renderables, so that nothing reads differently in an issue.

Text is cleaned and escaped here, whoever wrote it: it becomes no markup, no link, and no mention of anybody.
"""

from __future__ import annotations

import re
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from learning_signal.viewer.text import clean
from learning_signal.viewer.transcript.indented import Indented
from learning_signal.viewer.transcript.values import Later

_ACTS = re.compile(r"[\\`*_\[\]<>&|~$]")
"""Characters that mean something anywhere in a line."""
_BEGINS = re.compile(r"^(?:([#=]|[+-](?=[\s+-]|$))|([0-9]+)(?=[.)](?:\s|$)))")
"""What means something where a line begins: headings, lists, lines."""
_LINKS = re.compile(r"(?<=@)(?=\w)|(?<=#)(?=[0-9])|(?<=:)(?=//)|(?<=www)(?=\.)", re.I)
"""Places within what pages such as GitHub's make a link of by themselves: mentions, numbers, addresses."""
NOTHING = "<!-- -->"
"""A comment, which no page shows: it parts what would become a link."""


def escaped(text: str) -> str:
    """Untrusted text, its line ends kept, as Markdown that shows just this text where no line begins with it."""
    return _LINKS.sub(NOTHING, _ACTS.sub(r"\\\g<0>", clean(text, lines=True)))


def markdown(shown: Any) -> str:
    """A renderable of the viewer as blocks of Markdown.

    Raises:
        TypeError: a kind of renderable that no view of the viewer uses.
    """
    if isinstance(shown, Text | str):
        return _paragraph(shown)
    if isinstance(shown, Later):
        return markdown(shown.laid_out())
    if isinstance(shown, Group):
        return "\n\n".join(block for block in map(markdown, shown.renderables) if block)
    if isinstance(shown, Padding | Indented):
        inner = markdown(shown.renderable if isinstance(shown, Padding) else shown.inner)
        return "\n".join(f"> {line}".rstrip() for line in inner.split("\n")) if inner else ""
    if isinstance(shown, Table):
        return _table(shown)
    raise TypeError(f"no Markdown for {type(shown).__name__}")


def rows(heads: list[str], lines: list[list[str]], right: frozenset[int] = frozenset()) -> str:
    """A table of cells that are Markdown; the columns ``right`` are aligned right."""
    rule = ["---:" if column in right else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines])


def _paragraph(shown: Text | str) -> str:
    written = _line(shown) if isinstance(shown, Text) else escaped(shown)
    lines = [line.strip() for line in written.split("\n") if line.strip()]
    return "\\\n".join(_BEGINS.sub(_at_the_beginning, line) for line in lines)


def _at_the_beginning(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}{NOTHING}"


def _line(text: Text) -> str:
    """A text, its bold parts bold."""
    marks = sorted({0, len(text.plain), *(edge for span in text.spans for edge in (span.start, span.end))})
    parts = []
    for begin, end in zip(marks, marks[1:], strict=False):
        styles = [text.style, *(span.style for span in text.spans if span.start <= begin and end <= span.end)]
        parts.append(_strong(text.plain[begin:end], any("bold" in str(style).split() for style in styles)))
    return "".join(parts)


def _strong(words: str, bold: bool) -> str:
    cleaned = clean(words, lines=True)
    before, after = (" " if words[:1].isspace() else ""), (" " if words[-1:].isspace() else "")
    shown = escaped(cleaned.strip())
    if not shown:
        return "\n" if "\n" in words else before
    before = "\n" if words.startswith("\n") else before
    after = "\n" if words.endswith("\n") else after
    return f"{before}**{shown}**{after}" if bold and "\n" not in shown else f"{before}{shown}{after}"


def _table(table: Table) -> str:
    columns = table.columns
    heads = [cell(column.header) if table.show_header else "" for column in columns]
    cells = [[cell(each) for each in column.cells] for column in columns]
    right = frozenset(index for index, column in enumerate(columns) if column.justify == "right")
    return rows(heads, [list(line) for line in zip(*cells, strict=True)], right)


def cell(shown: Any) -> str:
    """What stands in a cell of a table, on one line."""
    written = _line(shown) if isinstance(shown, Text) else escaped(shown) if isinstance(shown, str) else markdown(shown)
    return "<br>".join(line.strip() for line in written.split("\n") if line.strip())

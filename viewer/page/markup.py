"""What the terminal shows, as HTML: the same renderables, so that nothing reads differently on a page.

Text is cleaned and escaped here, whoever wrote it. Styles become classes; there is no style attribute, because the page
allows none.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from functools import lru_cache
from html import escape
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Span, Text

from learning_signal.viewer.text import clean
from learning_signal.viewer.transcript.indented import Indented
from learning_signal.viewer.transcript.values import Later

CLASSES = ("bold", "dim", "italic", "underline", "red", "green", "yellow", "cyan", "magenta", "blue")
"""The words of a style that are a class of the page."""

MOST_KEPT, SHORT = 4096, 400
"""How many lines of at most so many characters are kept as HTML: many are alike."""
_EVENT = re.compile(r"(?<!\S)#([0-9]{1,9})\b")
"""The number of an event, which leads to it."""


Known = dict[Hashable, str]
"""The HTML of what was laid out already, see ``Later.known_by``."""


def markup(shown: Any, known: Known | None = None) -> str:
    """A renderable of the viewer as HTML.

    Args:
        known: what it finds here it takes, and it adds what it lays out.

    Raises:
        TypeError: a kind of renderable that no view of the viewer uses.
    """
    if isinstance(shown, Text):
        return f"<p>{line(shown)}</p>" if shown.plain.strip() else ""
    if isinstance(shown, str):
        return f"<p>{_words(shown)}</p>"
    if isinstance(shown, Later):
        return _later(shown, {} if known is None else known)
    if isinstance(shown, Group):
        return "".join([markup(each, known) for each in shown.renderables])
    if isinstance(shown, Padding):
        return f'<div class="in">{markup(shown.renderable, known)}</div>'
    if isinstance(shown, Indented):
        return f'<div class="in">{markup(shown.inner, known)}</div>'
    if isinstance(shown, Table):
        return _table(shown)
    raise TypeError(f"no HTML for {type(shown).__name__}")


def _later(shown: Later, known: Known) -> str:
    key = shown.known_by()
    html = None if key is None else known.get(key)
    if html is None:
        html = markup(shown.laid_out(), known)
        if key is not None:
            known[key] = html
    return html


def line(text: Text) -> str:
    """A text with its styles, without a paragraph around it."""
    kept = _short_line if len(text) <= SHORT else _line
    return kept(text.plain, text.style, tuple(text.spans))


def _line(plain: str, style: str | Style, spans: tuple[Span, ...]) -> str:
    if not spans:
        return _span(plain, _classes((style,)))
    marks = sorted({0, len(plain), *(edge for span in spans for edge in (span.start, span.end))})
    parts = []
    for begin, end in zip(marks, marks[1:], strict=False):
        styles = (style, *[span.style for span in spans if span.start <= begin and end <= span.end])
        parts.append(_span(plain[begin:end], _classes(styles)))
    return "".join(parts)


_short_line = lru_cache(maxsize=MOST_KEPT)(_line)


def classes(styles: Iterable[str | Style]) -> list[str]:
    """The classes of some styles, the later ones over the earlier; "not dim" takes "dim" away."""
    found: dict[str, None] = {}
    for style in styles:
        words = str(style).split()
        for before, word in zip(["", *words], words, strict=False):
            if word in CLASSES and before == "not":
                found.pop(word, None)
            elif word in CLASSES:
                found[word] = None
    return list(found)


@lru_cache(maxsize=MOST_KEPT)
def _classes(styles: tuple[str | Style, ...]) -> str:
    return " ".join(classes(styles))


def _span(words: str, names: str) -> str:
    shown = _words(words)
    return f'<span class="{names}">{shown}</span>' if names and shown else shown


def _words(words: str) -> str:
    """Untrusted words; their line ends are kept by the page's style, and one space where spans meet."""
    if words.isprintable() and "  " not in words:
        shown = escape(words)
    else:
        shown = escape("\n".join([_cleaned(each) for each in words.split("\n")]))
    return _EVENT.sub(r'<a href="#e\1">#\1</a>', shown) if "#" in shown else shown


def _cleaned(words: str) -> str:
    shown = clean(words)
    if not shown:
        return " " if words else ""
    return (" " if words[0].isspace() else "") + shown + (" " if words[-1].isspace() else "")


def _table(table: Table) -> str:
    """A table; the columns of numbers are aligned right."""
    columns = table.columns
    heads = "".join(map(_head, columns))
    head = f"<thead><tr>{heads}</tr></thead>" if table.show_header and any(str(each.header) for each in columns) else ""
    rows = zip(*(list(column.cells) for column in columns), strict=True)
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(column)}>{_cell(cell)}</td>" for column, cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _head(column: Any) -> str:
    """The head of a column; a column without a name has none that is read aloud."""
    shown = _cell(column.header)
    return f'<th scope="col"{_class(column)}>{shown}</th>' if shown else "<td></td>"


def _class(column: Any) -> str:
    names = (["right"] if column.justify == "right" else []) + (["whole"] if column.no_wrap else [])
    return f' class="{" ".join(names)}"' if names else ""


def _cell(cell: Any) -> str:
    if isinstance(cell, Text):
        return line(cell)
    return _words(cell) if isinstance(cell, str) else markup(cell)

"""JSON values for a reader: tables, lists and formulas in place of brackets, with every value as it is stored.

What is long is laid out when it is shown: a page that shows the same thing again need not lay it out again.
"""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Span, Text

from learning_signal.viewer.text import MISSING, clean, shaping_line, styled
from learning_signal.viewer.transcript.indented import Indented

WIDTH = 84
"""Characters that a value may take on a line: a terminal of 100 columns less the deepest usual indent."""
WORD = 32
"""Characters of an item up to which a list is a line, however many items it has."""
_DECODER = json.JSONDecoder()
MOST_DEPTH = 40
"""Values nested deeper than this are shown as JSON."""


class Later:
    """A renderable that is laid out when it is shown."""

    def laid_out(self) -> RenderableType:
        """What is shown."""
        raise NotImplementedError

    def known_by(self) -> Hashable | None:
        """Equal where the same is shown; None where nothing tells."""
        raise NotImplementedError

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.laid_out()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.laid_out())


@dataclass(frozen=True)
class _Said(Later):
    text: str

    def laid_out(self) -> RenderableType:
        parts: list[RenderableType] = []
        for words, value in pieces(self.text):
            if words.strip():
                parts.append(styled(words.strip("\n"), lines=True))
            if value is not None:
                shown = readable(value)
                parts.append(Indented(shown) if parts else shown)
        return Group(*parts)

    def known_by(self) -> Hashable:
        return self.text


@dataclass(frozen=True)
class _Nested(Later):
    """A list or an object that does not fit on a line."""

    value: Any
    depth: int

    def laid_out(self) -> RenderableType:
        if isinstance(self.value, Mapping):
            return _columns(self.value, self.depth) or _series(self.value) or _named(self.value, self.depth)
        return _records(self.value) or _items(self.value, self.depth)

    def known_by(self) -> Hashable | None:
        try:
            return marshal.dumps((self.value, self.depth), 2)  # which tells 1, 1.0 and True apart
        except ValueError:  # it is nested too deeply, or no plain data
            return None


def readable(value: Any, depth: int = 0) -> RenderableType:
    """A JSON value: a scalar or a short list on one line, records as a table, anything else below its name."""
    if isinstance(value, str):
        return said(value)
    short = inline(value)
    if short is not None or depth >= MOST_DEPTH:
        return styled(json.dumps(value) if short is None else short)
    return _Nested(value, depth)


def said(text: str) -> RenderableType:
    """What was said: the words as they are, the JSON in them made readable."""
    return _Said(text)


def pieces(text: str) -> Iterator[tuple[str, Any]]:
    """The words of ``text``, each with the JSON object or list that follows on lines of its own; None at the end."""
    begun, at = 0, 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        if text[at:end].lstrip()[:1] in ("{", "["):
            start = at + len(text[at:end]) - len(text[at:end].lstrip())
            try:
                value, stop = _DECODER.raw_decode(text, start)
            except (ValueError, RecursionError):
                value, stop = None, 0
            rest = text.find("\n", stop) + 1 or len(text)
            if value and not text[stop:rest].strip():
                yield text[begun:at], value
                begun = at = rest
                continue
        at = end
    if begun < len(text):
        yield text[begun:], None


def inline(value: Any) -> str | None:
    """A scalar, a shaping or a short list of scalars on one line, or None."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, int) or math.isfinite(value) else json.dumps(value)
    if isinstance(value, str):
        return value if len(value) <= WIDTH and "\n" not in value else None
    if isinstance(value, Mapping):
        return shaping_line(value) if _is_shaping(value) else (None if value else "none")
    parts = [_part(each) for each in value]
    line = ", ".join(part for part in parts if part is not None)
    words = all(part is not None and len(part) <= WORD for part in parts)
    return None if None in parts or (len(line) > WIDTH and not words) else line or "none"


def _part(value: Any) -> str | None:
    """An item of a list on one line, or None."""
    if isinstance(value, Mapping):
        return None
    if not isinstance(value, list | tuple):
        return inline(value)
    if any(isinstance(each, Mapping | list | tuple) for each in value):
        return None
    shown = inline(value)
    return None if shown is None else f"({shown})"


def _is_shaping(value: Mapping[str, Any]) -> bool:
    terms, anneal = value.get("terms"), value.get("anneal")
    falls = not anneal or (isinstance(anneal, Mapping) and {"start", "end"} <= anneal.keys())
    return "beta" in value and falls and isinstance(terms, list) and all(isinstance(each, Mapping) for each in terms)


def _series(value: Mapping[str, Any]) -> Table | None:
    """Named lists of one length, such as the points of metrics: a table with a line for each name."""
    lists = list(value.values())
    if len(lists) < 2 or not all(isinstance(each, list) for each in lists):
        return None
    lengths = {len(each) for each in lists}
    rows = [[str(name), *map(_cell, each)] for name, each in value.items()]
    return _table(rows) if len(lengths) == 1 and lengths != {0} else None


def _columns(value: Mapping[str, Any], depth: int) -> RenderableType | None:
    """A table that was sent as ``columns`` and ``rows``."""
    columns, rows = value.get("columns"), value.get("rows")
    if not (isinstance(columns, list) and isinstance(rows, list) and all(isinstance(each, list) for each in rows)):
        return None
    if any(len(row) != len(columns) for row in rows):
        return None
    table = _records([dict(zip(map(str, columns), row, strict=True)) for row in rows])
    rest = {name: each for name, each in value.items() if name not in ("columns", "rows")}
    if table is None or not rest:
        return table
    return Group(_named(rest, depth), table)


def _records(value: Sequence[Any]) -> RenderableType | None:
    """Objects with few scalar fields: a table where it fits, else a line for each, without the fields that are None."""
    if not value or not all(isinstance(each, Mapping) and each for each in value):
        return None
    names = list(dict.fromkeys(str(name) for each in value for name in each))
    rows = [[_cell(each.get(name)) for name in names] for each in value]
    if any(cell is None for row in rows for cell in row):
        return None
    return _table(rows, names) or Group(*(_line(each) for each in value))


def _line(record: Mapping[str, Any]) -> Text:
    """A record on one line, its first field as its name."""
    (_, first), *rest = record.items()
    line = Text.assemble((clean(_cell(first) or MISSING), "bold"), ": ")
    shown = [(name, _cell(each)) for name, each in rest if each not in (None, [], {})]
    for index, (name, cell) in enumerate(shown):
        line.append("; " if index else "").append(f"{clean(name)} ", "dim").append(clean(cell or MISSING))
    return line


def _cell(value: Any) -> str | None:
    """A value in a table, or None where it does not fit into one."""
    if isinstance(value, list | tuple):
        parts = [None if isinstance(each, Mapping) else _part(each) for each in value]
        return None if None in parts else " ".join(part for part in parts if part is not None) or MISSING
    return value if isinstance(value, str) else inline(value)


def _table(rows: Sequence[Sequence[str | None]], names: Sequence[str] = ()) -> Table | None:
    """Cells as a table, or None where one is no cell, or they do not fit next to each other."""
    lines = [*rows, list(names)] if names else list(rows)
    if any(cell is None for row in rows for cell in row):
        return None
    widths = [max(len(row[index] or "") for row in lines) for index in range(len(rows[0]))]
    if sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        return None
    table = Table(box=None, pad_edge=False, show_header=bool(names), header_style="dim", padding=(0, 2, 0, 0))
    for index in range(len(widths)):
        numbers = index > 0 and all(_is_number(row[index] or "") for row in rows)
        table.add_column(clean(names[index]) if names else "", justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(styled(cell, "bold" if index == 0 else "") for index, cell in enumerate(row)))
    return table


def _is_number(text: str) -> bool:
    return text in (MISSING, "") or text.lstrip("+-")[:1].isdigit()


def _named(value: Mapping[str, Any], depth: int) -> RenderableType:
    """Fields below each other: the short ones on the line of their name, the others indented below it."""
    parts: list[RenderableType] = []
    for name, each in value.items():
        heading, short = f"{clean(str(name))}: ", inline(each)
        if short is not None:
            parts.append(_labelled(heading, clean(short)))
        elif isinstance(each, str) and all(found is None for _, found in pieces(each)):
            parts.append(_labelled(heading, clean(each, lines=True)))
        else:
            parts += [Text(heading, "dim"), Indented(readable(each, depth + 1))]
    return Group(*parts)


def _labelled(heading: str, words: str) -> Text:
    return Text(heading + words, "dim", spans=[Span(len(heading), len(heading) + len(words), "not dim")])


def _items(value: Sequence[Any], depth: int) -> RenderableType:
    """The items of a list below each other, each with a dash."""
    return Group(*(Indented(readable(each, depth + 1), "- ") for each in value))

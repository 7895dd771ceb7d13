"""Answers for programs: plain JSON of a bounded size, without control characters and without NaN."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from learning_signal.viewer.text import clean

Detail = Literal["short", "full"]
LONGEST = 20_000
"""Characters of an answer."""
_CUTS = ((8_000, 10_000, 24), (2_000, 200, 24), (600, 60, 24), (300, 60, 12), (120, 20, 8), (80, 8, 6), (80, 8, 4))
"""(characters of a text, items of a list, levels of nesting), tried in turn until an answer is short enough."""
_SHORT = 3
"""Where to begin with them where little is asked for."""


def page(rows: Sequence[Any], first: int, detail: Detail) -> str:
    """As many rows as fit from number ``first`` (from 0) on, with the number to go on with."""
    taken: list[Any] = []
    for row in rows[first:]:
        fitting = _fitting(row, detail, LONGEST - 1_000)
        if taken and len(_json([*taken, fitting])) > LONGEST - 1_000:
            break
        taken.append(fitting)
    after = first + len(taken)
    return _json({"items": taken, "of": len(rows), "next": after if after < len(rows) else None})


def whole(data: Any, detail: Detail) -> str:
    """One record; long texts and lists in it are cut where it would be too long, each saying so."""
    return _json(_fitting(data, detail, LONGEST))


def _fitting(data: Any, detail: Detail, longest: int) -> Any:
    for texts, items, levels in _CUTS if detail == "full" else _CUTS[_SHORT:]:
        found = _tidy(data, texts, items, levels)
        if len(_json(found)) <= longest:
            return found
    return {"left_out": f"more than {longest:,} characters even where it is cut: ask for a part"}


def _tidy(value: Any, texts: int, items: int, levels: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if levels == 0:
        return "(more, left out)"
    if isinstance(value, Mapping):
        return {_text(str(name), texts): _tidy(each, texts, items, levels - 1) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        shown = [_tidy(each, texts, items, levels - 1) for each in list(value)[:items]]
        return [*shown, f"(the first {items} of {len(value)})"] if len(value) > items else shown
    return _text(str(value), texts)


def _text(text: str, longest: int) -> str:
    shown = clean(text[: 2 * longest], lines=True)  # not all of a text of megabytes
    if len(shown) <= longest and len(text) <= 2 * longest:
        return shown
    return f"{shown[:longest]}… (cut: it has {len(text)} characters)"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def lines(text: str) -> str:
    """A text of many lines, cut where it is too long."""
    return _text(text, LONGEST - 100)

"""The numbers of a tool result, each with the names that it stands under."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from learning_signal.tools.claims.numbers import written_numbers

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAMED_BY = ("name", "feature", "metric")
"""Keys whose text names the numbers beside them."""
_CHANGES = ("difference", "mean_difference", "differences", "interval", "gain", "gains", "means", "drop", "change")
"""Keys whose numbers are of the measure named beside or above them."""
_BOUNDS = ("low", "high", "max_return", "largest_return", "horizon", "largest_entropy", "floor", "delta")


@dataclass(frozen=True)
class Number:
    """A number of the record."""

    value: float
    names: frozenset[str]
    """Keys, and names given beside it, on the way to it."""
    bound: bool = False
    """Whether it is the most or least that something can be, not something that was measured."""
    loose: bool = False
    """Whether it stands in a sentence, which may say that it is of anything."""


@lru_cache(maxsize=512)  # every claim of a round is held against the same results
def numbers_of(text: str | None) -> tuple[Number, ...]:
    """The numbers of a tool result; none of a list of metric definitions, which says nothing of any value."""
    if text is None:
        return ()
    try:
        found = json.loads(text)
    except ValueError:
        return tuple(_in_text(text, frozenset()))
    return tuple(_numbers(found, frozenset(), None))


def numbers_in(value: Any) -> list[Number]:
    """The numbers of JSON data."""
    return list(_numbers(value, frozenset(), None))


def is_listing(text: str | None) -> bool:
    """Whether a tool result only defines metrics."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return False
    metrics = found.get("metrics") if isinstance(found, dict) else None
    return isinstance(metrics, dict) and all(isinstance(each, str) for each in metrics.values())


def names_of(texts: Iterable[str | None]) -> set[str]:
    """Every key, and every text that is an identifier, in tool results."""
    found: set[str] = set()
    for text in texts:
        found |= _names_in(text or "")
    return found


@lru_cache(maxsize=512)
def _names_in(text: str) -> frozenset[str]:
    try:
        return frozenset(_names(json.loads(text or "null")))
    except ValueError:
        return frozenset(IDENTIFIER.findall(text))


def _numbers(value: Any, names: frozenset[str], measure: str | None) -> Iterator[Number]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, (int, float)):
        if math.isfinite(value):
            yield Number(float(value), names, bool(names & set(_BOUNDS)))
    elif isinstance(value, str):
        yield from _in_text(value, names)
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each, names, measure)
    elif isinstance(value, dict):
        yield from _of_object(value, names, measure)


def _of_object(value: dict[str, Any], names: frozenset[str], measure: str | None) -> Iterator[Number]:
    given = value.get("measure") or value.get("rule")
    measure = _plain(given) if isinstance(given, str) else measure
    names |= {_plain(text) for key in _NAMED_BY if isinstance(text := value.get(key), str)}
    columns, rows = value.get("columns"), value.get("rows")
    if isinstance(columns, list) and isinstance(rows, list):
        yield from _of_table([str(each) for each in columns], rows, names, measure)
        value = {key: each for key, each in value.items() if key not in ("columns", "rows")}
    for key, each in value.items():
        if key == "metrics" and isinstance(each, dict) and all(isinstance(one, str) for one in each.values()):
            continue
        of_measure = {measure} if key in _CHANGES and measure else set()
        yield from _numbers(each, names | {_plain(key)} | of_measure, measure)


def _of_table(columns: list[str], rows: list[Any], names: frozenset[str], measure: str | None) -> Iterator[Number]:
    for row in rows:
        cells = row if isinstance(row, list) else [row]
        own = {_plain(each) for each in cells if isinstance(each, str) and IDENTIFIER.fullmatch(each)}
        for index, each in enumerate(cells):
            if not isinstance(each, str) or not IDENTIFIER.fullmatch(each):
                column = {_plain(columns[index])} if index < len(columns) else set()
                yield from _numbers(each, names | own | column, measure)


def _in_text(text: str, names: frozenset[str]) -> Iterator[Number]:
    for each in written_numbers(text):
        yield Number(each.value * (each.sign or 1), names, loose=True)
        if each.percent:
            yield Number(each.value * (each.sign or 1) / 100, names, loose=True)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if IDENTIFIER.fullmatch(value):
            yield value
        elif len(value) < 2000:
            yield from re.findall(r"[a-z]+(?:_[a-z0-9]+)+", value)
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _names(each)

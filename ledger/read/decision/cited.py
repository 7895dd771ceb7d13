"""The numbers of a sentence in the evidence that it cites: where each of them stands."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MOST_PLACES = 6
"""Places that are told of one sentence and one piece of evidence."""
_NUMBER = re.compile(r"(?<![\w.])([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s?(%)?(?![\w])", re.IGNORECASE)
_MOST_DEPTH = 40


@dataclass(frozen=True)
class CitedNumber:
    """A number of a sentence, and where the evidence has it."""

    said: str
    """As it is written in the sentence."""
    path: str
    """In the evidence: names joined by dots, places of lists in brackets."""
    value: float


def cited_numbers(sentence: str, evidence: str | None) -> list[CitedNumber]:
    """Where the numbers of ``sentence`` stand in ``evidence``, the JSON of a tool's result; at most one place of each.

    A number is found where a value rounds to it at the digits that are written; percent are hundredths. Of one digit
    alone none is looked for: many values round to it.
    """
    leaves, found = _numbers_of(evidence or "null"), dict[str, CitedNumber]()
    for match in _NUMBER.finditer(sentence):
        written, percent = match[1], match[2] is not None
        if written in found or len(written.strip("+-")) < 2 and not percent:
            continue
        said, half = float(written), _half(written)
        places = [
            leaf for leaf in leaves if abs(said - leaf[1]) <= half or (percent and abs(said - 100 * leaf[1]) <= half)
        ]
        if places:
            path, value = min(places, key=lambda leaf: (-_named(leaf[0], sentence), len(leaf[0])))
            found[written] = CitedNumber(match[0].strip(), path, value)
    return list(found.values())[:MOST_PLACES]


@lru_cache(maxsize=64)
def _numbers_of(evidence: str) -> tuple[tuple[str, float], ...]:
    """The numbers of a JSON text, each with its path; several sentences cite the same evidence."""
    found: list[tuple[str, float]] = []
    try:
        _put_leaves(found, json.loads(evidence), "", 0)
    except (ValueError, RecursionError):
        return ()
    return tuple(found)


def _put_leaves(found: list[tuple[str, float]], value: Any, path: str, depth: int) -> None:
    """Add the numbers in ``value``, each with its path, to ``found``."""
    if isinstance(value, bool) or depth > _MOST_DEPTH:
        return
    if isinstance(value, (int, float)) and math.isfinite(value):
        found.append((path, float(value)))
    elif isinstance(value, dict) and (table := _table(value)) is not None:
        for first, cells in table.items():
            _put_leaves(found, cells, f"{path}[{first}]", depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            _put_leaves(found, item, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            name = item.get("name") if isinstance(item, dict) else None
            _put_leaves(found, item, f"{path}[{place if name is None else name}]", depth + 1)


def _table(value: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """A table that is written as columns and rows: by the first cell of each row, the other cells by column."""
    columns, rows = value.get("columns"), value.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    return {str(row[0]): dict(zip(map(str, columns[1:]), row[1:], strict=False)) for row in rows if row}


def _half(written: str) -> float:
    """Half of the last digit that is written: what is at most as far away rounds to it."""
    digits = len(written.partition(".")[2].lower().partition("e")[0])
    exponent = int(written.lower().partition("e")[2] or 0)
    return 0.5 * 10.0 ** (exponent - digits) * (1 + 1e-9)


def _named(path: str, sentence: str) -> int:
    """How many words of a path the sentence names."""
    words = re.findall(r"[A-Za-z_]{3,}", path)
    return sum(word in sentence or word.replace("_", " ") in sentence for word in words)

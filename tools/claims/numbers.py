"""Numbers as they are written in words, and whether a value is such a number before it was rounded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])(?<![A-Za-z][-^])(?P<sign>[+\-−]?)"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<power>[eE][+\-−]?\d+)?"
    r"(?:\s?(?P<unit>%|percent\b|per\scent\b|[kKM]\b))?(?![A-Za-z0-9_])"
)
_ITEM = re.compile(r"(?:^|(?<=[\s(]))\(?(\d{1,2})([.)])(?=\s)")
_EXPRESSION = re.compile(r"`[^`]*[(*/][^`]*`")
_COUNTED = re.compile(
    r"\s(?:agents?|robots?|predators?|seeds?|pairs?|points?|parts?|rounds?|candidates?|terms?|features?|metrics?|"
    r"updates?|evaluations?|stages?|quarters?|thirds?|sentences?|reasons?|ways?)\b"
)
_LABEL = re.compile(r"\b(?:round|refinement|failure|candidate|agent|seed|rung|turn|point|number)\s$", re.IGNORECASE)
FACTORS = {"k": 1e3, "K": 1e3, "M": 1e6}
EXACT_ZERO = 0.005
"""A bare 0 says no more than this."""
ROUND_FROM = 1000
"""Whole numbers from here on may end in zeros because they were rounded: 150,000 for 150,400."""


@dataclass(frozen=True)
class Written:
    """A number as it stands in a text."""

    text: str
    value: float
    """Without sign; what is written in k or M is multiplied out, a percentage is not divided."""
    rounding: float
    """Half a unit of its last digit."""
    sign: int
    """-1, +1, or 0 where none is written."""
    percent: bool
    start: int
    end: int

    def fits(self, value: float) -> bool:
        """Whether ``value`` could be written so: 1.598 as 1.60, 0.25 as 25 %, 50,120 as 50 k."""
        if self.percent and self._near(100 * value):
            return True
        return self._near(value)

    def fits_any(self, values: Iterable[float]) -> bool:
        """Whether it fits one of many values."""
        if self.percent:
            return any(self.fits(value) for value in values)
        sign, said, rounding = self.sign, self.value, self.rounding
        for value in values:
            size = abs(value)
            found = sign * value if sign else size
            if abs(found - said) <= rounding + 1e-9 * (size if size > 1.0 else 1.0):
                return True
        return False

    def _near(self, value: float) -> bool:
        found = abs(value) if self.sign == 0 else self.sign * value
        return abs(found - self.value) <= self.rounding + 1e-9 * max(1.0, abs(value))

    def distance(self, value: float) -> float:
        """How far ``value`` is from what is written, in relation to it."""
        candidates = [value, 100 * value] if self.percent else [value]
        return min(abs(abs(each) - self.value) for each in candidates) / max(abs(self.value), 1e-9)


@lru_cache(maxsize=512)  # the sentences of a verdict are read for every claim after it
def written_numbers(text: str) -> tuple[Written, ...]:
    """The numbers that a text states, in order.

    Left out: digits that are part of a name (``E2``, ``c1``, ``10x10``), the numbering of a list (1., 2. ...), numbers
    inside a formula in backticks, and whole numbers up to 20 that count or name something (3 agents, seed 5, round 2).
    """
    skipped = [match.span() for match in _EXPRESSION.finditer(text)] + list(_items(text))
    found = (_written(match) for match in _NUMBER.finditer(text))
    return tuple(
        each
        for each in found
        if not any(start <= each.start and each.end <= end for start, end in skipped) and not _counts(each, text)
    )


def _items(text: str) -> Iterator[tuple[int, int]]:
    """Where the list items 1, 2, 3 ... of a text are numbered."""
    expected = 1
    for match in _ITEM.finditer(text):
        before = text[: match.start()].rstrip()
        begins = not before or before[-1] in ".:;,!?)" or match.group(2) == ")"
        if int(match.group(1)) == expected and begins:
            expected += 1
            yield match.span()


def _counts(number: Written, text: str) -> bool:
    whole = number.sign == 0 and number.text.isdigit() and number.value <= 20
    return whole and bool(_COUNTED.match(text, number.end) or _LABEL.search(text, 0, number.start))


def _written(match: re.Match[str]) -> Written:
    digits, power, unit = match["digits"].replace(",", ""), match["power"], match["unit"] or ""
    factor = 10.0 ** int(power[1:].replace("−", "-")) if power else 1.0
    factor *= FACTORS.get(unit, 1.0)
    whole, _, decimals = digits.partition(".")
    last = -len(decimals)
    if not decimals and not power and not unit and float(digits) >= ROUND_FROM:
        last = len(whole) - len(whole.rstrip("0"))
    rounding = 0.5 * 10.0**last * factor
    if digits == "0" and not unit:
        rounding = EXACT_ZERO
    sign = {"+": 1, "-": -1, "−": -1}.get(match["sign"], 0)
    value = float(digits) * factor
    return Written(
        text=match.group().strip(),
        value=value if math.isfinite(value) else math.inf,
        rounding=rounding,
        sign=sign,
        percent=unit not in ("", *FACTORS),
        start=match.start(),
        end=match.end(),
    )

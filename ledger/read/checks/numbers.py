"""When two numbers of a log are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Numbers that differ by less are equal: another machine may sum in another order."""


def same(found: Any, expected: Any) -> bool:
    """Whether two values agree, numbers up to the order of their sum."""
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (found, expected))
    if numbers:
        return math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(found == expected)


def average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

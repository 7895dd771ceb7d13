"""What a text says of which name: ``entropy fell from 1.76 to 1.09`` states two numbers of entropy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from learning_signal.tools.claims.numbers import Written

_BETWEEN = re.compile(
    r"(?:`|\s|\(|=|:|~|≈|\b(?:is|are|was|were|be|at|of|to|from|by|only|just|still|now|already|about|around|nearly|almost|"
    r"fell|falls|fallen|rose|rises|risen|grew|grows|went|goes|dropped|drops|collapsed|collapses|stays|stayed|stands|"
    r"stood|reached|reaches|remains|remained|has|have|had|been|the|mean|value|low|high|up|down|level|it)\b)*"
)
_STATED = re.compile(r"(?:`|\s|=|\b(?:is|are|was|were|stays|stands|now|already|still|only|at)\b)*")
"""The same in a text that also says what is to be: only what is or was."""
_ON = re.compile(r"\s*(?:to|→|->|–|-|against|vs\.?|versus|down to|up to)\s*")
"""Between a number and the next of the same name."""
_LIST = re.compile(r"\s*(?:,|and|then|, then|, and)\s*")
"""The same between numbers with a point, as whole ones often begin something else."""
_OF_BOUND = re.compile(r"\b(?:of|most|least|maximum|max|bound|limit|horizon|floor|good end|bad end)\s*\(?$")
_TIME = re.compile(r"\s*(?:[kM]\s)?(?:env[ _]steps|steps|updates|episodes|pairs|seeds|branches|per\s?cent of)\b")
_CHANGED = re.compile(r"\b(?:by|gain of|gains|rise of|drop of|difference of|another)\s*(?:about\s*)?$")
_TIMES = re.compile(r"\s*(?:times|-fold|fold|per\b)")


def stated(
    text: str, numbers: Iterable[Written], names: Mapping[str, str], *, only_present: bool = False
) -> dict[int, str]:
    """Which name each number is said to be of: its start in ``text`` -> the name.

    ``names`` maps what stands in a text (``sparse return``) to the name (``sparse_return``). A number is of a name that
    stands directly before it but for words such as *fell from*; so are those that follow by *to* or *against*. What
    counts time (``150,000 env steps``) is of none. ``only_present`` leaves out what may be a plan (*to 0.3*).
    """
    ordered = sorted(numbers, key=lambda each: each.start)
    found: dict[int, str] = {}
    longest_first = sorted(names, key=len, reverse=True)
    if not longest_first or not ordered:
        return found
    pattern = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(map(re.escape, longest_first))})(?![A-Za-z0-9_])", re.I)
    between = _STATED if only_present else _BETWEEN
    for match in pattern.finditer(text):
        gap = between.match(text, match.end())
        end = match.end() if gap is None else gap.end()
        for each in ordered:
            if each.start < match.end():
                continue
            first = end == each.start
            following = end < each.start and _follows(text[end : each.start], each)
            if not (first or following) or (following and end not in (one.end for one in ordered)):
                break
            if _TIME.match(text, each.end):
                break
            found.setdefault(each.start, names[match.group().lower()])
            end = each.end
    return found


def _follows(words: str, number: Written) -> bool:
    return _ON.fullmatch(words) is not None or (_LIST.fullmatch(words) is not None and "." in number.text)


def is_bound(text: str, number: Written) -> bool:
    """Whether a number is written as the most or least of something: ``of at most 1.79``, ``0.24 of 1``."""
    return _OF_BOUND.search(text, 0, number.start) is not None


def is_change(text: str, number: Written) -> bool:
    """Whether a number is written as a difference or a ratio: with a sign, after *by*, in per cent, before *times*."""
    return (
        number.sign != 0
        or number.percent
        or _CHANGED.search(text, 0, number.start) is not None
        or _TIMES.match(text, number.end) is not None
    )

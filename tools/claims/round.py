"""Readings, reasons and rationales held against the verdicts, comparisons and results of their round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from learning_signal.tools.claims.diagnosis import CLAUSE, clause_around, is_of, spoken, unsupported
from learning_signal.tools.claims.instructions import orders
from learning_signal.tools.claims.mark import Known, Mark
from learning_signal.tools.claims.numbers import written_numbers
from learning_signal.tools.claims.record import Number, numbers_of
from learning_signal.tools.claims.words import is_change, stated

_ID = re.compile(r"(?<![A-Za-z0-9_\-])(?:[CEB]|c)\d{1,9}(?![A-Za-z0-9_]|\.\d)")
_CITED = re.compile(r"(?<![A-Za-z0-9_])E\d{1,9}(?![A-Za-z0-9_])")
_OUTCOME = re.compile(
    r"(?<![A-Za-z0-9_])(?P<candidate>c\d+)(?:`?:|`)?(?:\s+(?:has|have|is|was|were|clearly|just|also|then|been|again|a|had|"
    r"computed as))*\s+(?P<word>pass(?:ed|es)?|fail(?:ed|s)?|inconclusive|promoted)(?![A-Za-z0-9_])"
    r"|\b[Vv]erdict(?:\s+(?:is|was|says|of)|:|\s+for\s+(?P<of>c\d+)(?:\s+is|:)?)*\s*(?P<verdict>pass|fail|inconclusive)\b"
    r"|(?<![A-Za-z0-9_])(?P<shout>PASS|PASSED)(?![A-Za-z0-9_])"
)
_HEDGED = re.compile(
    r"\b(?:if|whether|unless|would|had|neither|nor|not|no|none|until|once|when|should|could|may|might|round \d+)\b"
    r"|n't\b",
    re.I,
)
_PLANNED = re.compile(r"\b(?:if|would|should|could|may|might|will|until|expect\w*|hope\w*|target\w*)\b", re.I)
_JUDGED = {"pass": "pass", "passed": "pass", "passes": "pass", "fail": "fail", "failed": "fail", "fails": "fail"}
SAID = ("sparse_return", "progress", "p", "difference", "interval")
"""What a number may be said to be of in a reading or a reason."""
_OF_DIFFERENCES = ("difference", "differences", "mean_difference", "interval", "gain", "gains", "drop", "change")


@dataclass(frozen=True)
class RoundRecord:
    """What the rows say of a round, at the moment of a claim."""

    ids: frozenset[str]
    """Every evidence, comparison, branch and candidate of the session so far."""
    outcomes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Candidate of the round -> its computed outcomes."""
    broken: frozenset[str] = frozenset()
    """Candidates of which a branch failed in training: they failed without any verdict."""
    numbers: tuple[Number, ...] = ()
    """Of comparisons, tool results and computed sentences."""
    evidence: Mapping[str, str | None] = field(default_factory=dict)
    """Results by evidence id."""


def marks_of_words(
    name: str, text: str, record: RoundRecord, known: Known, *, promotes: str | None = None
) -> tuple[Mark, ...]:
    """What in a reading or a reason contradicts the record.

    Args:
        name: the field, as in ``reading``.
        promotes: the candidate that the decision with this reason promotes.

    Marked are ids that do not exist, an outcome said of a candidate (or of the verdict) that is not the computed one,
    numbers said to be of sparse return, progress, p, a difference or an interval that nothing in the round has, and
    orders to other agents. Clauses with *if*, *not* and the like claim no outcome, those with *would* no number.
    """
    return tuple(
        [
            *_unknown_ids(name, text, record),
            *_outcomes(name, text, record, promotes),
            *_numbers(name, text, record, known),
            *orders(name, text),
        ]
    )


def marks_of_rationale(name: str, text: str, record: RoundRecord, known: Known) -> tuple[Mark, ...]:
    """What in a rationale contradicts the record: ids, orders, and numbers where it quotes evidence.

    It quotes evidence in a sentence that names an evidence id, and where it says what a measure *is*.
    """
    marks = [*_unknown_ids(name, text, record), *_outcomes(name, text, record, None)]
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        cited = [each for each in _CITED.findall(sentence) if each in record.evidence]
        if cited:
            pool = [number for each in cited for number in numbers_of(record.evidence[each])]
            marks += unsupported(name, sentence, pool, known, ", ".join(cited))
        else:
            marks += _numbers(name, sentence, record, known, only_present=True)
    return (*marks, *orders(name, text))


def _unknown_ids(name: str, text: str, record: RoundRecord) -> Iterator[Mark]:
    for each in dict.fromkeys(_ID.findall(text)):
        if each not in record.ids:
            yield Mark(field=name, kind="id", claim=each, problem=f"{name} names {each}, which does not exist")


def _outcomes(name: str, text: str, record: RoundRecord, promotes: str | None) -> Iterator[Mark]:
    every = frozenset(outcome for outcomes in record.outcomes.values() for outcome in outcomes)
    seen: set[str] = set()
    for match in _OUTCOME.finditer(text):
        clause = CLAUSE.split(text[: match.start()])[-1]
        if _HEDGED.search(clause):
            continue
        candidate, word = match["candidate"] or match["of"], match["word"] or match["verdict"] or match["shout"].lower()
        if candidate is not None and candidate not in record.ids:
            continue  # marked as one that does not exist
        if word == "promoted":
            there, right = f"{candidate} was not promoted", candidate == promotes
        else:
            said = _JUDGED.get(word, word)
            of = every if candidate is None else record.outcomes.get(candidate, frozenset())
            computed = " and ".join(sorted(of)) or "none"
            about = "" if candidate is None else f" of {candidate}"
            there, right = f"the computed verdict{about} is {computed}", said in of
            right = right or (said == "fail" and candidate in record.broken)
        claim = " ".join(match.group().split())
        if not right and claim not in seen:
            seen.add(claim)
            yield Mark(field=name, kind="outcome", claim=claim, problem=f'{name} says "{claim}", but {there}')


def _numbers(name: str, text: str, record: RoundRecord, known: Known, *, only_present: bool = False) -> Iterator[Mark]:
    numbers = written_numbers(text)
    of_name = stated(text, numbers, spoken(SAID), only_present=only_present)
    for number in numbers:
        about = of_name.get(number.start)
        if about is None or _PLANNED.search(clause_around(text, number)):
            continue
        differs = about in ("difference", "interval")
        differs = differs or (about in ("sparse_return", "progress") and is_change(text, number))
        values = [each.value for each in record.numbers if not each.bound and _is_about(each, about, differs)]
        if not number.fits_any(values):
            nearest = min(values, key=number.distance, default=None)
            near = "there is none" if nearest is None else f"the nearest is {nearest:.4g}"
            words = about.replace("_", " ")
            yield Mark(
                field=name,
                kind="number",
                claim=f"{words} {number.text}",
                problem=f"{name} says {words} {number.text}, which nothing in this round has ({near})",
            )


def _is_about(number: Number, about: str, differs: bool) -> bool:
    """Whether a number is of what a text says; ``differs``: also where it is a difference of anything."""
    return _named(number.names, (about,)) or (differs and _named(number.names, _OF_DIFFERENCES))


@lru_cache(maxsize=4096)  # few names stand beside many numbers
def _named(names: frozenset[str], keys: tuple[str, ...]) -> bool:
    return any(is_of(each, key) for each in names for key in keys)

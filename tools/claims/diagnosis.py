"""A diagnosis held against the evidence it cites, the features there are, and the computed stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from learning_signal.tools.claims.instructions import orders
from learning_signal.tools.claims.mark import Known, Mark
from learning_signal.tools.claims.numbers import Written, written_numbers
from learning_signal.tools.claims.record import IDENTIFIER, Number, is_listing, names_of, numbers_in, numbers_of
from learning_signal.tools.claims.words import is_bound, is_change, stated
from learning_signal.tools.contracts import Diagnosis

_QUOTED = re.compile(r"`([^`]{1,200})`")
_SNAKE = re.compile(r"(?<![A-Za-z0-9_.])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![A-Za-z0-9_])")
CLAUSE = re.compile(r"[.;:,!?\n](?=\s|$)|\bbut\b|\bwhile\b")
"""Between two clauses of a text."""
_PLANS = re.compile(
    r"\b(?:weigh\w*|beta|gamma|scal\w+|strength|coefficient|anneal\w*|decay\w*|factor|aim\w*|give|gives|pay|pays|if|would|"
    r"should|could|may|might|will|until|expect\w*|hope\w*|target\w*)\b",
    re.I,
)
"""Words of a clause of the advice about what is to be done, not about what was measured."""
FUNCTIONS = ("min", "max", "abs", "exp", "clip", "mean", "beta", "gamma", "phi", "null", "none", "true", "false")
"""What stands in potentials and results besides names."""


def marks_of_diagnosis(diagnosis: Diagnosis, evidence: Mapping[str, str | None], known: Known) -> tuple[Mark, ...]:
    """What in a diagnosis is not supported.

    Args:
        evidence: the results of the session's evidence so far, by id.
        known: the rest of the record.

    Every number in a failure must be in the evidence that the failure cites, within the rounding it is written with;
    one behind the name of a metric or feature must be a value of that name. What code told the agent besides (HEAD,
    bounds after *of* or *at most*) counts too, and so does a change written as one (``+0.03``, *by*, per cent, *times*)
    that is the difference or the ratio of two other numbers of the same failure.

    The advice cites nothing and plans: its numbers must be in any evidence so far, and only those are checked that have
    decimals or a per cent sign, or stand behind a name, outside of clauses about weights, strengths and what should be.
    """
    marks: list[Mark] = []
    if known.stage is not None and diagnosis.stage != known.stage and not (diagnosis.stage_reason or "").strip():
        marks.append(
            Mark(
                field="stage",
                kind="stage",
                claim=diagnosis.stage,
                problem=f"stage says {diagnosis.stage}, but the computed stage is {known.stage}, and no stage_reason "
                "says why",
            )
        )
    there = {*known.features, *known.metrics, *known.names} | names_of(evidence.values())
    for index, failure in enumerate(diagnosis.failures, 1):
        field, cited = f"failure {index}", {name: evidence.get(name) for name in failure.evidence}
        marks += _of_evidence(field, failure.description, cited, known)
        marks += unknown_names(field, failure.description, there, known.features)
        marks += orders(field, failure.description)
    every = {name: evidence.get(name) for failure in diagnosis.failures for name in failure.evidence}
    if diagnosis.stage_reason:
        marks += _of_numbers("stage_reason", diagnosis.stage_reason, every, known)
        marks += orders("stage_reason", diagnosis.stage_reason)
    marks += _of_advice(diagnosis.advice, evidence, known)
    marks += unknown_names("advice", diagnosis.advice, there, known.features)
    marks += orders("advice", diagnosis.advice)
    return tuple(marks)


def _of_evidence(field: str, text: str, cited: Mapping[str, str | None], known: Known) -> list[Mark]:
    if cited and all(is_listing(result) for result in cited.values()):
        problem = f"{field} cites only {_listed(cited)}, which defines metrics and has no value of any"
        return [Mark(field=field, kind="evidence", claim=_listed(cited), problem=problem)]
    return _of_numbers(field, text, cited, known)


def _of_numbers(field: str, text: str, cited: Mapping[str, str | None], known: Known) -> list[Mark]:
    pool = [number for result in cited.values() for number in numbers_of(result)]
    return unsupported(field, text, pool, known, _listed(cited))


def _of_advice(text: str, evidence: Mapping[str, str | None], known: Known) -> list[Mark]:
    def measured(number: Written, name: str | None) -> bool:
        if name is None and not number.percent and "." not in number.text:
            return False
        return not _PLANS.search(clause_around(text, number))

    pool = [number for result in evidence.values() for number in numbers_of(result)]
    return unsupported("advice", text, pool, known, "any evidence", measured)


def unsupported(
    field: str,
    text: str,
    pool: Sequence[Number],
    known: Known,
    source: str,
    is_checked: Callable[[Written, str | None], bool] = lambda number, name: True,
) -> list[Mark]:
    """A mark for every number of ``text`` that neither ``pool`` (the numbers of ``source``) nor ``known`` supports.

    ``is_checked`` says by number, and the name that it is said to be of, whether it must be supported at all.
    """
    numbers = written_numbers(text)
    pool = [*pool, *numbers_in(known.told)]
    bounds = [*known.bounds, *(each.value for each in pool if each.bound)]
    of_name = stated(text, numbers, spoken([*known.features, *known.metrics]))
    held = [number for number in numbers if is_checked(number, of_name.get(number.start))]
    missing: list[Written] = []
    measured = [each for each in pool if not each.bound]
    for number in held:
        name = of_name.get(number.start)
        if name is None and is_bound(text, number) and number.fits_any(bounds):
            continue
        if not number.fits_any(each.value for each in _about(measured, name, known.features)):
            missing.append(number)
    sure = [each.value for each in held if each not in missing]
    return [
        _number_mark(field, number, of_name.get(number.start), measured, known.features, source)
        for number in missing
        if not (is_change(text, number) and _derived(number, sure))
    ]


def clause_around(text: str, number: Written) -> str:
    """The clause in which a number stands, without it."""
    return CLAUSE.split(text[: number.start])[-1] + CLAUSE.split(text[number.end :], maxsplit=1)[0]


def _about(measured: Sequence[Number], name: str | None, features: Sequence[str]) -> Sequence[Number]:
    """The measured numbers of a name; where a feature has none, or no name is given, all of them."""
    if name is None:
        return measured
    of_it = [each for each in measured if _is_named(each.names, name)]
    return [*of_it, *(each for each in measured if each.loose)] if of_it or name not in features else measured


@lru_cache(maxsize=4096)  # few names stand beside many numbers
def _is_named(names: frozenset[str], name: str) -> bool:
    return any(is_of(key, name) for key in names)


def is_of(key: str, name: str) -> bool:
    """Whether what stands under ``key`` is of ``name``: ``evaluation_sparse_return`` is of ``sparse_return``."""
    return key in (name, f"{name}s") or (key.endswith(f"_{name}") and not key.startswith("with_"))


def _derived(number: Written, sure: Sequence[float]) -> bool:
    pairs = ((one, other) for one in sure for other in sure if one != other)
    return any(number.fits(result) for one, other in pairs for result in _results(one, other, number.sign))


def _results(one: float, other: float, sign: int) -> Iterator[float]:
    yield abs(one - other) * (sign or 1)
    if other:
        yield one / other * (sign or 1)


def _number_mark(
    field: str, number: Written, name: str | None, measured: Sequence[Number], features: Sequence[str], source: str
) -> Mark:
    values = [each.value for each in _about(measured, name, features)]
    nearest = min(values, key=number.distance, default=None)
    of = f" of {name}" if name else ""
    near = f"no number{of}" if nearest is None else f"nearest{of} {nearest:g}"
    return Mark(
        field=field,
        kind="number",
        claim=f"{name} {number.text}" if name else number.text,
        problem=f"{field} says {number.text}{of}, which is not in {source} ({near})",
    )


def spoken(names: Iterable[str]) -> dict[str, str]:
    """How names stand in a text, in lower case: as they are and, where they are joined by ``_``, as words."""
    forms: dict[str, str] = {}
    for name in names:
        plain = name.strip().lower().replace(" ", "_")
        forms[name.lower()] = plain
        if "_" in plain:
            forms[plain.replace("_", " ")] = plain
    return forms


def unknown_names(field: str, text: str, there: set[str], features: Sequence[str]) -> list[Mark]:
    """A mark for every name in backticks, or written with ``_``, that nothing has."""
    lower = {name.lower() for name in there} | set(FUNCTIONS)
    quoted = [one for match in _QUOTED.finditer(text) for one in IDENTIFIER.findall(match.group(1))]
    # Words of a longer quotation are not names unless they are written as one.
    names = [one for one in quoted if "_" in one or f"`{one}`" in text] + _SNAKE.findall(text)
    missing = [name for name in dict.fromkeys(names) if name.lower() not in lower]
    return [
        Mark(
            field=field,
            kind="name",
            claim=name,
            problem=f"{field} names {name}, which is no feature and no metric here "
            f"(features: {', '.join(features) or 'none'})",
        )
        for name in missing
        if not re.fullmatch(r"[A-Za-z]\d+", name)
    ]


def _listed(cited: Iterable[str]) -> str:
    return ", ".join(cited)

"""What is wrong with arguments, in words that a small model can act on: where, what was found, what is expected."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

MOST_PROBLEMS = 8
"""Problems that are listed; the others are only counted."""
LONGEST_FOUND = 40
"""Characters of a wrong value that are shown."""

SYNONYMS = {
    "feature": "potential",
    "expression": "potential",
    "formula": "potential",
    "coefficient": "weight",
    "level": "scope",
    "strength": "beta",
    "annealing": "anneal_steps",
    "anneal": "anneal_steps",
    "confidence": "probability",
    "prob": "probability",
    "delta": "change",
    "difference": "change",
    "explanation": "rationale",
    "justification": "reason",
    "rationale": "reason",
    "explain": "reason",
    "summary": "reading",
    "analysis": "reading",
    "verdict": "outcome",
    "result": "outcome",
    "recommendation": "advice",
    "recommendations": "advice",
    "problem": "description",
    "cause": "description",
    "evidence_ids": "evidence",
    "ids": "evidence",
    "metrics": "names",
    "id": "branch",
    "name": "candidate",
}
"""What models call a field -> our name of it, told where that is a field of the same object."""

Sentence = Callable[["Problem"], str]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    type: str
    """pydantic's name of the kind of error."""
    place: tuple[int | str, ...]
    """Where it is in the arguments: names of fields, and places in lists from 0."""
    where: str
    """The same in words, counted from 1: ``candidate 1 (of 3), term 2 (of 2), weight``."""
    found: Any
    """The wrong value; None where the field is missing."""
    expects: Mapping[str, Any]
    """pydantic's numbers about the rule: ``ge``, ``max_length`` ..."""
    fields: tuple[str, ...]
    """The known fields: of the object that has the unknown one, or of the object that is expected."""
    choices: tuple[str, ...] = ()
    """The choices, where it must be one of them."""
    said: str = ""
    """The words of a check of our own."""

    def __str__(self) -> str:
        return f"{self.where or 'the arguments'}: {SENTENCES.get(self.type, _otherwise)(self)}"


def problems_of(error: ValidationError, model: type[BaseModel], value: Any) -> list[Problem]:
    """What is wrong with ``value``, the arguments as they were read, in the order of ``error``.

    A list of which every item is wrong is not also called too short.
    """
    found = [_problem(each, model, value) for each in error.errors(include_url=False)]
    return [each for each in found if not _of_wrong_items(each)]


def readable(problems: Sequence[Problem]) -> str:
    """The problems as ``where: what; where: what``."""
    lines = [str(problem) for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return "; ".join(lines)


def _problem(error: Any, model: type[BaseModel], value: Any) -> Problem:
    place, context = tuple(error["loc"]), error.get("ctx", {})
    unknown = error["type"] == "extra_forbidden"
    record = _record_at(model, place[:-1] if unknown else place)
    said = context.get("error")
    return Problem(
        type=error["type"],
        place=place,
        where=_where(place, value),
        found=None if error["type"] == "missing" else error.get("input"),
        expects={name: each for name, each in context.items() if name != "error"},
        fields=() if record is None else tuple(record.model_fields),
        choices=_choices(model, place) if error["type"] == "literal_error" else (),
        said="" if said is None else str(said),
    )


def _of_wrong_items(problem: Problem) -> bool:
    """Whether pydantic calls a list too short because it counts the right items alone."""
    least = problem.expects.get("min_length", 0)
    return problem.type == "too_short" and isinstance(problem.found, (list, tuple)) and len(problem.found) >= least


def _where(place: Sequence[int | str], value: Any) -> str:
    """A place in words, items counted from 1 in the list's own name: ``term 2 (of 3)``."""
    words: list[str] = []
    for part in place:
        if isinstance(part, int) and isinstance(value, list):
            words[-1] = f"{_one(words[-1])} {part + 1} (of {len(value)})"
            value = value[part] if part < len(value) else None
        else:
            words.append(str(part))
            value = value.get(part) if isinstance(value, Mapping) else None
    return ", ".join(words)


def _one(name: str) -> str:
    """The name of one item of a list: ``candidates`` has ``candidate 1``."""
    return name[:-1] if name.endswith("s") else name


def _record_at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """The argument model at ``place`` inside ``model``; None where there is something else."""
    found: Any = model
    for part in place:
        if isinstance(part, str):
            field = _field(_model_in(found), part)
            found = None if field is None else field.annotation
    return _model_in(found)


def _field(model: type[BaseModel] | None, name: str) -> Any:
    """The field that arguments call ``name``, by its own name or an alias."""
    for own, field in () if model is None else model.model_fields.items():
        if name == own or name in getattr(field.validation_alias, "choices", ()):
            return field
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The argument model in ``annotation``: itself, or what a list, an option or an annotated type holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((each for part in typing.get_args(annotation) if (each := _model_in(part)) is not None), None)


def _choices(model: type[BaseModel], place: Sequence[int | str]) -> tuple[str, ...]:
    names = [part for part in place if isinstance(part, str)]
    owner = _record_at(model, place[: place.index(names[-1])])
    field = _field(owner, names[-1])
    return () if field is None else tuple(_literals(field.annotation))


def _literals(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [each for each in typing.get_args(annotation) if isinstance(each, str)]
    return [each for part in typing.get_args(annotation) for each in _literals(part)]


def _shown(value: Any) -> str:
    """A wrong value as the model wrote it, cut."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = str(value)
    return text if len(text) <= LONGEST_FOUND else text[: LONGEST_FOUND - 3] + "..."


def _kind(problem: Problem) -> str:
    found = problem.found
    if isinstance(found, bool) or not isinstance(found, (str, list, dict, int, float)):
        return "null" if found is None else _shown(found)
    return "a list" if isinstance(found, list) else "an object" if isinstance(found, dict) else _shown(found)


def _must_be(what: str) -> Sentence:
    return lambda problem: f"must be {what}, not {_kind(problem)}"


def _bound(words: str, name: str) -> Sentence:
    return lambda problem: f"must be {words} {_plain(problem.expects[name])}, not {_shown(problem.found)}"


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _unknown(problem: Problem) -> str:
    name, known = str(problem.place[-1]), problem.fields
    if not known:
        return "unknown field (this tool takes no arguments)"
    meant = SYNONYMS.get(name.lower(), "")
    close = [meant] if meant in known else difflib.get_close_matches(name, known, n=1)
    return f"unknown field{f' (did you mean {close[0]}?)' if close else ''}; known are {', '.join(known)}"


def _object(problem: Problem) -> str:
    fields = f" with the fields {', '.join(problem.fields)}" if problem.fields else ""
    return f"must be an object{fields}, not {_kind(problem)}"


def _choice(problem: Problem) -> str:
    expected = ", ".join(problem.choices) or str(problem.expects.get("expected", "one of the choices"))
    return f"must be one of {expected}, not {_kind(problem)}"


def _pattern(problem: Problem) -> str:
    example = {r"^E[0-9]{1,9}$": "an evidence id such as E1"}.get(problem.expects["pattern"])
    return f"must be {example or 'text of the form ' + problem.expects['pattern']}, not {_shown(problem.found)}"


def _long(problem: Problem) -> str:
    return f"has {len(problem.found)} characters, at most {problem.expects['max_length']} are taken: write less"


def _short(problem: Problem) -> str:
    least = problem.expects["min_length"]
    return "must not be empty" if least == 1 else f"must have at least {least} characters"


def _few(problem: Problem) -> str:
    return f"must have at least {problem.expects['min_length']} item{'s' * (problem.expects['min_length'] != 1)}"


def _many(problem: Problem) -> str:
    return f"has {len(problem.found)} items, at most {problem.expects['max_length']} are taken"


def _own(problem: Problem) -> str:
    return problem.said or _otherwise(problem)


def _otherwise(problem: Problem) -> str:
    """An error that the table does not know: what was found, without pydantic's words."""
    return f"cannot be {_kind(problem)}"


SENTENCES: Mapping[str, Sentence] = {
    "missing": lambda problem: "missing",
    "extra_forbidden": _unknown,
    "number": _must_be("a number or a word"),
    "whole": _must_be("a whole number below 2^63"),
    "float_type": _must_be("a number"),
    "float_parsing": _must_be("a number"),
    "finite_number": _must_be("a finite number"),
    "int_type": _must_be("a whole number"),
    "int_parsing": _must_be("a whole number"),
    "int_parsing_size": _must_be("a whole number of usual size"),
    "int_from_float": _must_be("a whole number"),
    "bool_type": _must_be("true or false"),
    "bool_parsing": _must_be("true or false"),
    "string_type": _must_be("text"),
    "string_unicode": _must_be("text in Unicode"),
    "string_too_short": _short,
    "string_too_long": _long,
    "string_pattern_mismatch": _pattern,
    "literal_error": _choice,
    "tuple_type": _must_be("a list"),
    "list_type": _must_be("a list"),
    "too_short": _few,
    "too_long": _many,
    "model_type": _object,
    "model_attributes_type": _object,
    "dict_type": _object,
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("more than", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("less than", "lt"),
    "value_error": _own,
    "assertion_error": _own,
}
"""Every kind of error that arguments can meet, by pydantic's name, and what a model is told of it."""

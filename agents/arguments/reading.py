"""Reads the arguments of a tool call; what a model wrote in another form is taken where its meaning is certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from learning_signal.agents.arguments.problems import Problem, problems_of, readable
from learning_signal.agents.arguments.text import read_json
from learning_signal.tools.base import Tool, ToolRefused

Arguments = TypeVar("Arguments", bound=BaseModel)
WRAPPERS = ("arguments", "parameters", "input", "args", "kwargs")
"""Keys under which models put the arguments once more."""
MOST_REPAIRS = 64
"""Fields of one call that are rewritten."""


def parse_arguments(tool: Tool, arguments: str) -> BaseModel:
    """The arguments of a call of ``tool``, as ``read_arguments`` reads them."""
    return read_arguments(tool.name, tool.arguments, arguments)


def read_arguments(tool: str, model: type[Arguments], arguments: str) -> Arguments:
    """The arguments of the tool with this name and argument model, read from what a model wrote.

    Taken in another form, where the arguments are invalid as written: JSON inside a string, Python's notation, one
    item in place of a list of one, a choice in other letters (``Exploring``), all arguments under one key of
    ``WRAPPERS``.

    Raises:
        ToolRefused: one sentence on what is wrong; its field ``refused`` holds the numbers, from 1, of the wrong items
            of the first list in which items are wrong.
    """
    value = _object(tool, model, arguments)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        invalid = error
    for changed in _repaired(value, model, invalid):
        value = changed
        try:
            return model.model_validate(value)
        except ValidationError as error:
            invalid = error
    problems = problems_of(invalid, model, value)
    refused = _refused(problems)
    raise ToolRefused(
        f"the arguments of {tool} are wrong: {readable(problems)}; correct them and call it again.",
        code="arguments",
        **({"refused": refused} if refused else {}),
    )


def _object(tool: str, model: type[BaseModel], arguments: str) -> dict[str, Any]:
    """The arguments as a mapping; ``ToolRefused`` where the text holds none."""
    try:
        value = read_json(arguments.strip() or "{}")
        if isinstance(value, str) and value.lstrip().startswith("{"):  # encoded twice
            value = read_json(value)
    except ValueError as error:
        problem = f"the arguments of {tool} are not valid JSON ({error})"
        raise ToolRefused(f"{problem}; call it again with one JSON object.") from None
    except RecursionError:
        problem = f"the arguments of {tool} are nested too deeply"
        raise ToolRefused(f"{problem}; call it again with one plain JSON object.") from None
    value = {} if value is None else value
    if not isinstance(value, dict):
        kind = {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
        raise ToolRefused(f"the arguments of {tool} are {kind}; call it again with one JSON object.")
    if len(value) == 1:
        (key, inner), known = *value.items(), model.model_fields
        inner = _unfolded(inner)
        if key in WRAPPERS and key not in known and isinstance(inner, dict):
            return _given(inner, model)
    return _given(value, model)


def _given(value: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """``value`` without fields that are null and may be left out: strict servers have models write every field."""
    fields = model.model_fields
    return {
        name: each
        for name, each in value.items()
        if each is not None or name not in fields or fields[name].is_required()
    }


def _repaired(value: dict[str, Any], model: type[BaseModel], invalid: ValidationError) -> Iterator[dict[str, Any]]:
    """``value`` with one more field rewritten each time; ends where nothing more can be."""
    tried: set[tuple[int | str, ...]] = set()
    for _ in range(MOST_REPAIRS):
        for problem in problems_of(invalid, model, value):
            better = None if problem.place in tried else _in_its_form(problem)
            if better is not None:
                tried.add(problem.place)
                value = _replaced(value, problem.place, better)
                yield value
                break
        else:
            return
        try:
            model.model_validate(value)
        except ValidationError as error:
            invalid = error


def _in_its_form(problem: Problem) -> Any:
    """What was certainly meant by the wrong value of ``problem``; None where nothing is certain."""
    found = problem.found
    if problem.type in ("tuple_type", "list_type", "model_type", "model_attributes_type", "dict_type"):
        unfolded = _unfolded(found)
        if unfolded is not found:
            return unfolded
        if problem.type in ("tuple_type", "list_type") and isinstance(found, (str, dict)) and found:
            return [found]
    if problem.type == "literal_error" and isinstance(found, str):
        meant = [choice for choice in problem.choices if _letters(choice) == _letters(found)]
        return meant[0] if len(meant) == 1 else None
    return None


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def _unfolded(value: Any) -> Any:
    """The list or object inside a string; ``value`` itself where there is none."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        inner = read_json(value)
    except (ValueError, RecursionError):
        return value
    return inner if isinstance(inner, (dict, list)) else value


def _replaced(value: Any, place: Sequence[int | str], new: Any) -> Any:
    """``value`` with ``new`` at ``place``; nothing is changed in the original."""
    if not place:
        return new
    first, *rest = place
    if isinstance(value, list) and isinstance(first, int):
        return [_replaced(item, rest, new) if index == first else item for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _replaced(item, rest, new) if key == first else item for key, item in value.items()}
    return value


def _refused(problems: Sequence[Problem]) -> list[int]:
    """The numbers, from 1, of the wrong items of the first list that has any."""
    inside = [problem.place for problem in problems if len(problem.place) > 1 and isinstance(problem.place[1], int)]
    return sorted({int(place[1]) + 1 for place in inside if place[0] == inside[0][0]})

"""Argument models of tools: as JSON schemas that servers accept, and from what a model wrote as arguments."""

from __future__ import annotations

import difflib
import json
from typing import Any

from autogen_core.tools import ParametersSchema, ToolSchema
from pydantic import BaseModel, ValidationError

from learning_signal.tools.base import Tool, ToolRefused

MOST_PROBLEMS = 8
"""Validation problems that are listed; the others are only counted."""


def tool_schema(tool: Tool) -> ToolSchema:
    """The schema of ``tool`` for a model server."""
    schema = plain_schema(tool.arguments)
    return {"name": tool.name, "description": tool.description, "parameters": schema}


def plain_schema(model: type[BaseModel]) -> ParametersSchema:
    """The JSON schema of ``model`` with every reference in place and without titles.

    Many servers read neither ``$ref`` nor ``$defs``. Raises ``ValueError`` for a model that contains itself.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    plain = _inline(schema, definitions, ())
    plain.pop("description", None)  # the tool has its own
    plain.setdefault("properties", {})
    return plain


def parse_arguments(tool: Tool, arguments: str) -> BaseModel:
    """The tool's argument model, read from what a model wrote.

    Small models often write a nested list or object as JSON inside a string: where the arguments are
    invalid as written, such strings at the top level are read as JSON.

    Raises:
        ToolRefused: one sentence on what is wrong; its fields hold the path of every wrong field.
    """
    try:
        value = json.loads(arguments or "{}", parse_constant=_no_constant)
    except ValueError as error:
        problem = f"the arguments of {tool.name} are not valid JSON ({error})"
        raise ToolRefused(f"{problem}; call it again with one JSON object.") from None
    except RecursionError:
        problem = f"the arguments of {tool.name} are nested too deeply"
        raise ToolRefused(f"{problem}; call it again with one plain JSON object.") from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        problem = f"the arguments of {tool.name} are a {type(value).__name__}"
        raise ToolRefused(f"{problem}; call it again with one JSON object.")
    try:
        return tool.arguments.model_validate(value)
    except ValidationError as error:
        invalid = error
    unfolded = {name: _unfolded(item) for name, item in value.items()}
    if unfolded != value:
        try:
            return tool.arguments.model_validate(unfolded)
        except ValidationError as error:
            invalid = error
    problems = readable_problems(invalid, tool.arguments)
    paths = [list(problem["loc"]) for problem in invalid.errors(include_url=False, include_input=False)]
    raise ToolRefused(
        f"the arguments of {tool.name} are wrong: {problems}; correct them and call it again.",
        code="arguments",
        paths=paths[:MOST_PROBLEMS],
    )


def readable_problems(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong, as ``field: problem; field: problem``."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{_path(problem['loc'])}: {_problem(problem, model)}" for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return "; ".join(lines)


def _inline(node: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name in inside:
            raise ValueError(f"The argument model {name} contains itself; a tool's arguments must not.")
        target = _inline(definitions[name], definitions, (*inside, name))
        return target | _inline({key: value for key, value in node.items() if key != "$ref"}, definitions, inside)
    plain = {}
    for key, value in node.items():
        if key == "properties":  # here keys are field names: one may be called title
            plain[key] = {name: _inline(item, definitions, inside) for name, item in value.items()}
        elif key in ("default", "enum", "const", "examples"):
            plain[key] = value
        elif key not in ("title", "discriminator"):
            plain[key] = _inline(value, definitions, inside)
    return plain


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "arguments"


def _problem(problem: Any, model: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        known = list(model.model_fields) if len(problem["loc"]) == 1 else []
        close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})" if known else ""
        return f"unknown field{hint}"
    if problem["type"] == "missing":
        return "missing"
    return problem["msg"][:1].lower() + problem["msg"][1:]


def _unfolded(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")

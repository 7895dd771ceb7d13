"""Argument models of tools as JSON schemas that servers accept, without what only costs tokens.

Every request carries them. Whatever they leave out is still checked when a call is read.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from autogen_core.tools import ParametersSchema, ToolSchema
from pydantic import BaseModel

from learning_signal.tools.base import Tool

_LEFT_OUT = frozenset(
    {"title", "discriminator", "additionalProperties", "minLength", "maxLength", "pattern", "minItems", "maxItems"}
)
"""Keywords that tell a model nothing that it needs before it calls."""
_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
"""What pydantic writes for bounds behind a validator, and what JSON schema calls them."""
_FAR = 10**6
"""A bound as far as this limits nothing that a model would write."""


def tool_schema(tool: Tool) -> ToolSchema:
    """The schema of ``tool`` for a model server."""
    schema = plain_schema(tool.arguments)
    return {"name": tool.name, "description": tool.description, "parameters": schema}


def plain_schema(model: type[BaseModel]) -> ParametersSchema:
    """The JSON schema of ``model`` with every reference in place; what may be left out is not in ``required``.

    Many servers read neither ``$ref`` nor ``$defs``. Raises ``ValueError`` for a model that contains itself.
    """
    return deepcopy(_plain(model))


@cache  # pydantic takes milliseconds for each, and every agent of a session has its own workbench
def _plain(model: type[BaseModel]) -> ParametersSchema:
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    plain = _inline(schema, definitions, ())
    plain.pop("description", None)  # the tool has its own
    plain.setdefault("properties", {})
    return plain


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
        target.pop("description", None)  # that of the record, and every field has its own
        return target | _inline({key: value for key, value in node.items() if key != "$ref"}, definitions, inside)
    plain: dict[str, Any] = {}
    for key, value in node.items():
        bound: str = _BOUNDS.get(key) or key
        if key == "properties":  # here keys are field names: one may be called title
            plain[key] = {each: _inline(item, definitions, inside) for each, item in value.items()}
        elif key == "anyOf" and len(known := [each for each in value if each != {"type": "null"}]) == 1:
            plain |= _inline(known[0], definitions, inside)  # an argument that may be left out
        elif bound in _BOUNDS.values():
            plain |= {bound: value} if abs(value) < _FAR else {}
        elif key == "default":
            plain |= {key: value} if value else {}
        elif key in ("enum", "const", "examples"):
            plain[key] = value
        elif key not in _LEFT_OUT:
            plain[key] = _inline(value, definitions, inside)
    return plain

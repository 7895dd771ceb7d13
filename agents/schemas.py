"""Argument models of tools as JSON schemas that servers accept."""

from __future__ import annotations

from typing import Any

from autogen_core.tools import ParametersSchema, ToolSchema
from pydantic import BaseModel

from learning_signal.tools.base import Tool


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

"""Schemas of tools as strict servers accept them. What a form leaves out is still checked when a call is read.

The rules: OpenAI's of strict mode, as Microsoft states them too
(learn.microsoft.com/en-us/azure/ai-services/openai/how-to/structured-outputs), and Google's ``Schema`` of function
declarations (ai.google.dev/api/python/google/ai/generativelanguage/Schema). Google has added keywords since; Gemini's
form does without those that some of its servers were seen to refuse (``default``, ``additionalProperties``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes of a tool (name, description, parameters) the one that is sent."""

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_OF_STRICT = frozenset({"type", "description", "enum", "items", "properties", *_BOUNDS})
_OF_GEMINI = frozenset({"type", "description", "enum", "items", "properties", "required", "minimum", "maximum"})


def strict_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """``tool`` in OpenAI's strict mode: objects are closed, every field is required, and an optional one takes null.

    ``ValueError`` for a schema with a part that the mode cannot say, such as a value of any type.
    """
    return {**tool, "strict": True, "parameters": _strict(tool["parameters"])}


def gemini_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """``tool`` in the words of Google's function declarations, which refuse a request with any other keyword."""
    named = {key: value for key, value in tool.items() if key != "strict"}
    return {**named, "parameters": _sent(tool["parameters"], _OF_GEMINI, _gemini)}


def _strict(node: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("type"), str):
        raise ValueError(f"A schema in strict mode needs one type in every part, found {sorted(node)}.")
    plain = _sent(node, _OF_STRICT, _strict)
    if node["type"] == "object":
        required = node.get("required", ())
        properties = plain.get("properties", {})
        plain["properties"] = {name: part if name in required else _or_null(part) for name, part in properties.items()}
        plain |= {"required": list(properties), "additionalProperties": False}
    return plain


def _gemini(node: Mapping[str, Any]) -> dict[str, Any]:
    return _sent(node, _OF_GEMINI, _gemini)


def _sent(node: Mapping[str, Any], known: frozenset[str], each: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
    """``node`` with the ``known`` keywords; a default is said in its description."""
    plain = {key: value for key, value in node.items() if key in known}
    if "default" in node:
        said = f"{node.get('description', '')} Default: {node['default']}."
        plain["description"] = said.strip()
    if "properties" in plain:
        plain["properties"] = {name: each(part) for name, part in plain["properties"].items()}
    if "items" in plain:
        plain["items"] = each(plain["items"])
    return plain


def _or_null(part: Mapping[str, Any]) -> dict[str, Any]:
    choices = {"enum": [*part["enum"], None]} if "enum" in part else {}
    return {**part, "type": [part["type"], "null"], **choices}

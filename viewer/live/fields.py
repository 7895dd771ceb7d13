"""The arguments of a tool call as a person types them: JSON, name=value, or field by field."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

Ask = Callable[[str], str | None]
"""Prompts for a line; None where the turn is taken back."""


class TakenBack(Exception):
    """The turn is taken back while its fields are filled in."""


def typed_arguments(schema: Mapping[str, Any], rest: str, ask: Ask) -> str:
    """The arguments behind the name of a tool, as JSON. Nothing behind it: its fields are asked for.

    JSON may go on over several lines, up to an empty one. What is wrong is not corrected here: the tool refuses it, as
    it does for a model. Raises ``TakenBack``, and ``ValueError`` where the text is neither JSON nor name=value.
    """
    if rest.startswith(("{", "[")):
        return _json(rest, ask)
    properties = schema.get("properties", {})
    if rest:
        words = shlex.split(rest)
        wrong = [word for word in words if "=" not in word]
        if wrong:
            raise ValueError(f"found {wrong[0]!r}, expected name=value, JSON, or nothing behind the tool's name")
        pairs = [word.split("=", 1) for word in words]
        return json.dumps({name: _value(properties.get(name, {}), text) for name, text in pairs})
    return json.dumps(_object(schema, "", ask))


def field_lines(schema: Mapping[str, Any], indent: str = "  ") -> list[str]:
    """The fields of a tool, one a line, with those inside them."""
    lines, required = [], schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        more = "" if name in required else ", may be left out"
        about = f": {field['description']}" if field.get("description") else ""
        lines.append(f"{indent}{name} ({_kind(field)}{more}){about}")
        inner = field.get("items", field) if field.get("type") == "array" else field
        lines += field_lines(inner, indent + "  ")
    return lines


def _json(text: str, ask: Ask) -> str:
    while True:
        try:
            json.loads(text)
            return text
        except RecursionError:
            return text
        except ValueError:
            more = _line(ask, "... ")
            if not more.strip():
                return text
            text += "\n" + more


def _object(schema: Mapping[str, Any], path: str, ask: Ask) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        place = f"{path}{name}"
        needed = "" if name in schema.get("required", ()) else ", empty to leave out"
        items = field.get("items", {})
        if field.get("type") == "array" and items.get("properties"):
            values[name] = _list(items, place, ask)
        elif field.get("properties"):
            values[name] = _object(field, f"{place}.", ask)
        else:
            text = _line(ask, f"  {place} ({_kind(field)}{needed}): ").strip()
            if text:
                values[name] = _value(field, text)
    return values


def _list(items: Mapping[str, Any], place: str, ask: Ask) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = []
    while not values or _line(ask, f"  another of {place}? [y/n] ").strip().lower().startswith("y"):
        values.append(_object(items, f"{place} {len(values) + 1}: ", ask))
    return values


def _value(field: Mapping[str, Any], text: str) -> Any:
    """What was typed for a field, as JSON data: words need no quotes, and lists of them commas alone."""
    kind = field.get("type")
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if kind == "array" and not isinstance(value, list):
        item = field.get("items", {})
        return [_value(item, each.strip()) for each in text.split(",")]
    return value


def _kind(field: Mapping[str, Any]) -> str:
    choices = field.get("enum") or ([field["const"]] if "const" in field else None)
    if choices:
        return " or ".join(str(each) for each in choices)
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return {"string": "text", "integer": "whole number", "object": "fields", "boolean": "true or false"}.get(
        field.get("type", ""), str(field.get("type", "anything"))
    )


def _line(ask: Ask, prompt: str) -> str:
    line = ask(prompt)
    if line is None:
        raise TakenBack
    return line

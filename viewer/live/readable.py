"""JSON that agents are sent, laid out for a person to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

INDENT = "  "


def readable(text: str) -> str:
    """``text`` with the JSON object or list in it laid out line by line; it may follow one line, and others it."""
    heading, _, rest = text.partition("\n")
    for before, candidate in (("", text), (f"{heading}\n", rest)):
        try:
            value, end = json.JSONDecoder().raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list) and candidate[end:].lstrip(" ")[:1] in ("", "\n"):
            return before + "\n".join(_lines(value, "")) + candidate[end:]
    return text


def _lines(value: Any, indent: str) -> list[str]:
    items = value.items() if isinstance(value, Mapping) else [("-", each) for each in value]
    mark = ":" if isinstance(value, Mapping) else ""
    lines = []
    for name, each in items:
        if _short(each):
            lines.append(f"{indent}{name}{mark} {_inline(each)}")
        elif isinstance(each, str):
            lines.append(f"{indent}{name}{mark} {each}".replace("\n", f"\n{indent}{INDENT}"))
        else:
            lines += [f"{indent}{name}{mark}", *_lines(each, indent + INDENT)]
    return lines


def _short(value: Any) -> bool:
    """Whether a value reads well on one line: a number, a word, or some of them."""
    if isinstance(value, Mapping | list):
        parts = list(value.values()) if isinstance(value, Mapping) else value
        return all(not isinstance(each, Mapping | list) for each in parts) and len(json.dumps(value)) <= 90
    return not (isinstance(value, str) and "\n" in value)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_inline(each)}" for name, each in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_inline(each) for each in value) or "none"
    return value if isinstance(value, str) else json.dumps(value)

"""JSON as language models write it: line ends inside strings, and Python's notation in place of JSON's."""

from __future__ import annotations

import ast
import json
from typing import Any

LONGEST_PYTHON = 20_000
"""Characters of text that is tried as Python's notation, where it is no JSON."""


def read_json(text: str) -> Any:
    """The value in ``text``: JSON, or lists and objects in Python's notation (``{'a': None}``).

    Raises ``ValueError`` with the JSON parser's words, ``RecursionError`` where it is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, strict=False)
    except ValueError:
        value = _python(text)
        if not isinstance(value, (dict, list)):
            raise
        return value


def _python(text: str) -> Any:
    """The value of a Python literal that JSON can hold; None where ``text`` is none."""
    if len(text) > LONGEST_PYTHON:
        return None
    try:
        value = ast.literal_eval(text.strip())
        return json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")

"""Canonical JSON and content hashes: the same content always has the same text and the same address."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


class BodyHash(str):
    """The hash of a body that is already stored; given to ``Ledger.add`` in place of the body itself."""


def content_hash(text: str) -> str:
    """Return the SHA-256 of ``text`` in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys, no spaces and no NaN.

    Raises:
        ValueError: ``value`` holds something JSON has no word for.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def quick_json(value: Any) -> str:
    """``canonical_json`` for what is JSON data already, but with its keys as they stand; raises as that."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        return canonical_json(value)
    return canonical_json(value) if "\\u0000" in text else text


def plain(value: Any) -> Any:
    """Return ``value`` as JSON types; NaN and infinity, which JSON cannot say, become None.

    Tuples become lists, NumPy scalars and arrays Python numbers and lists, pydantic models dicts.

    Raises:
        ValueError: for any other type, and for a dict key that is not text.
    """
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"JSON keys must be text, got {key!r} ({type(key).__name__}).")
            found[storable(key)] = plain(item)
        return found
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy, without importing it
        return plain(value.tolist())
    if hasattr(value, "model_dump"):  # pydantic, without importing it
        return plain(value.model_dump(mode="json"))
    raise ValueError(f"A {type(value).__name__} cannot be stored as JSON; give dicts, lists, text, numbers or None.")


def storable(text: str) -> str:
    """Return ``text`` with what SQLite cannot hold as text (lone surrogates, NUL) replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # A model's JSON may carry half an emoji; losing the whole message over it would be worse.
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text

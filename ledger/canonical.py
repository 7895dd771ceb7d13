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


def plain(value: Any) -> Any:
    """Return ``value`` as JSON types; NaN and infinity, which JSON cannot say, become None.

    Tuples become lists, NumPy scalars and arrays Python numbers and lists, pydantic models dicts.

    Raises:
        ValueError: for any other type, and for a dict key that is not text.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"JSON keys must be text, got {key!r} ({type(key).__name__}).")
        return {storable(key): plain(item) for key, item in value.items()}
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
    try:
        text.encode()
    except UnicodeEncodeError:
        # A model's JSON may carry half an emoji; losing the whole message over it would be worse.
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text

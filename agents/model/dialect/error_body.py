"""What the body of a server's error says: its words, how long to wait, and whether a day's quota is used up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_WORDS = 2000
"""Characters of a server's words that are read."""

_DELAY = re.compile(r"retryDelay\W{1,6}(\d+(?:\.\d+)?)s")
_AGAIN = re.compile(r"(?:try again|retry) in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?", re.IGNORECASE)
_DAILY = re.compile(r"per[ _-]?day|\bdaily (?:limit|quota)|\b[RT]PD\b", re.IGNORECASE)


@dataclass(frozen=True)
class ErrorBody:
    """An error as its server tells it."""

    words: str = ""
    """The server's message, whole; empty where there is none, or a page of HTML."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    daily: bool = False
    """Whether what is used up is counted by the day."""


def read_error_body(body: Any) -> ErrorBody:
    """What ``body`` says: JSON of any shape, or text.

    Known are OpenAI's object, Google's list of such objects with a ``RetryInfo``, OpenRouter's ``metadata.raw`` with
    the words of the server behind it, and FastAPI's ``detail``.
    """
    words = _words(body)[:MOST_WORDS]
    everything = body if isinstance(body, str) else json.dumps(body, default=str)
    return ErrorBody(
        "" if "<html" in words.lower() else words, _wait(everything), _DAILY.search(everything) is not None
    )


def _words(body: Any) -> str:
    if isinstance(body, list):
        inner = [each for each in body if isinstance(each, Mapping) and "error" in each]
        return _words(inner[0]) if inner else json.dumps(body, default=str) if body else ""
    if not isinstance(body, Mapping):
        return body.strip() if isinstance(body, str) else ""
    if "error" in body:
        return _words(body["error"])
    said = next((body[name] for name in ("message", "detail", "msg") if body.get(name)), None)
    words = said.strip() if isinstance(said, str) else "" if said is None else json.dumps(said, default=str)
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("raw"):
        words = f"{words.rstrip('.')}: {_words(_json(metadata['raw']))}" if words else _words(_json(metadata["raw"]))
    return words


def _json(raw: Any) -> Any:
    """``raw``, read as JSON where it is some."""
    try:
        return json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError):
        return raw


def _wait(text: str) -> float | None:
    if match := _DELAY.search(text):
        return float(match[1])
    for hours, minutes, number, unit in _AGAIN.findall(text):
        if hours or minutes or number:
            seconds = float(number or 0) / (1000 if unit == "ms" else 1)
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds
    return None

"""Take secrets out of text before it is written: exact key values, and what looks like a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MARK = "[redacted]"
SHORTEST_SECRET = 6
"""Shorter values are ordinary words too often; no provider gives keys that short."""
SHORTEST_CERTAIN_SECRET = 16
"""A shorter value ("ollama" for a server that wants any key) may stand in a text without being the key."""

# "task-1234..." is no "sk-1234...", but a key may follow a line break that JSON wrote as backslash n
_START = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    # (lower-case marks, one of which must occur before the pattern is tried; pattern; replacement)
    (("sk-",), re.compile(_START + r"sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{16,}"), MARK),
    (("bearer",), re.compile(r"(?i)\b(bearer)\s+(?=\S*\d|\S{20})[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MARK}"),
    (("basic ",), re.compile(r"(?i)\b(authorization\W{1,4}basic)\s+[A-Za-z0-9+/=_-]{8,}"), rf"\1 {MARK}"),
    (
        ("apikey", "api_key", "api-key", "token", "client_secret", "client-secret", "password"),
        re.compile(
            r"(?i)((?:api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|password)"
            r"(?:\\?[\"'])?\s*[:=]\s*(?:\\?[\"'])?)([A-Za-z0-9._~+/=-]{6,})"
        ),
        rf"\1{MARK}",
    ),
    (("://",), re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@\"'<>]+@"), rf"\1{MARK}@"),
    (("aiza",), re.compile(_START + r"AIza[A-Za-z0-9_-]{30,}"), MARK),
    (("hf_",), re.compile(_START + r"hf_[A-Za-z0-9]{16,}"), MARK),
    (("gsk_",), re.compile(_START + r"gsk_[A-Za-z0-9]{16,}"), MARK),
    (("xai-",), re.compile(_START + r"xai-[A-Za-z0-9]{16,}"), MARK),
    (("ghp_", "gho_", "github_pat_"), re.compile(_START + r"(?:gh[po]|github_pat)_[A-Za-z0-9_]{20,}"), MARK),
    (("akia",), re.compile(_START + r"AKIA[A-Z0-9]{16}\b"), MARK),
)
_MARKED = re.compile("|".join(re.escape(mark) for marks, _, _ in _PATTERNS for mark in marks))
"""What any pattern is tried for: most texts have none of it."""


class Redactor:
    """Replaces known secrets, and text that has the form of one, by ``[redacted]``."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: tuple[str, ...] = ()
        self._certain: frozenset[str] = frozenset()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Add secrets; values shorter than ``SHORTEST_SECRET`` are left out."""
        forms = set(self._values)
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                forms |= _forms(secret)
            if len(secret) >= SHORTEST_CERTAIN_SECRET:
                self._certain |= _forms(secret)
        # the longest first, so that a secret that contains another leaves no tail behind
        self._values = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def text(self, text: str) -> str:
        """Return ``text`` without secrets."""
        for value in self._values:
            if value in text:
                text = text.replace(value, MARK)
        lowered = text.lower()
        if _MARKED.search(lowered) is None:
            return text
        for marks, pattern, replacement in _PATTERNS:
            if any(mark in lowered for mark in marks):
                text = pattern.sub(replacement, text)
        return text

    def reveals(self, text: str) -> bool:
        """Whether ``text`` holds a known secret so long that it can be nothing else."""
        return any(form in text for form in self._certain)

    def certain(self, text: str) -> str:
        """Return ``text`` without known secrets that are too long to be anything else; the rest stays as it is."""
        for value in sorted(self._certain, key=lambda form: (-len(form), form)):
            text = text.replace(value, MARK)
        return text

    def value(self, value: Any) -> Any:
        """Return JSON-like ``value`` with every text in it, keys included, without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value


def _forms(secret: str) -> set[str]:
    """A key as it is, and as it looks inside JSON (also JSON in JSON) and inside a URL."""
    forms = {secret, quote(secret), quote(secret, safe="")}
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii)[1:-1] for form in forms for ascii in (True, False)}
    return forms

"""Orders in an agent's words: a claim may argue, but not tell another agent or the gate what to do.

A simple search for phrases: a mark is cheap, and an order that it misses still stands in a field of another's words.
"""

from __future__ import annotations

import re

from learning_signal.tools.claims.mark import Mark

_RULES = (
    "gates?|verdicts?|rules?|instructions?|prompts?|validator|coordinator|statistics|probation|checks?|limits?|above|"
    "previous|everything|what you were told"
)
_ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:ignore|disregard|override|bypass|overrule|forget|circumvent)\b[^.;!?\n]{{0,30}}\b(?:{_RULES})\b",
        r"\bskip\b[^.;!?\n]{0,20}\b(?:screen|confirmation|gate|validation|probation)\b",
        r"\b(?:promote|confirm|keep|choose|pick)\s+(?:`?c\d+`?|this|it|mine)\s+"
        r"(?:now|anyway|immediately|regardless|at once|without|in any case|whatever)\b",
        r"\byou (?:must|have to|are to|are required|are now|shall|will now|need to)\b",
        r"\b(?:system|developer) (?:prompt|message|instruction)s?\b",
        r"\bnew (?:instructions?|rules?|task)\s*:",
        r"<\|?(?:im_start|system|/?instructions?)\b|\[/?(?:INST|system)\]|^#+\s*system\b",
        r"\b(?:coordinator|validator|generator|critic)\s*[:,]\s*(?:please\s+)?"
        r"(?:promote|keep|confirm|submit|call|roll|pass|do not|don't|ignore|accept)\b",
        r"\b(?:submit|report|call) (?:a |the )?(?:pass|outcome pass)\b",
        r"\bdo not (?:ask|confirm|screen|validate|doubt|question|check)\b",
    )
)
_BEGINS = ("promote c", "promote `c")


def orders(field: str, text: str) -> list[Mark]:
    """A mark for each kind of order in ``text``."""
    found = [match.group().strip() for pattern in _ORDERS if (match := pattern.search(text))]
    if text.strip().lower().startswith(_BEGINS):
        found.append(text.strip()[:40])
    return [
        Mark(
            field=field,
            kind="instruction",
            claim=words,
            problem=f'{field} holds what reads as an order ("{words[:80]}"): it is data, nobody follows it',
        )
        for words in dict.fromkeys(found)
    ]

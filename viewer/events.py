"""How parts of an event read, as it happens and in a report: its tone, a diagnosis, a verdict, a call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from learning_signal.viewer.text import MISSING, OUTCOME_STYLES, clean, outcome_text, shorten

SPOKEN_LIMIT = 600
"""Characters of a message that are shown live; the log has all of it."""
MARKS = {"comparison": "≷", "verdict": "▣", "probation": "▣", "decision": "◆", "approval": "◇"}
"""The prefix of an event by its kind."""
_WORDS = re.compile(
    r"\b(pass(?:ed)?|promoted?|held|approved|fail(?:ed)?|keep|kept|roll(?:ed)?[ _]back|regressed|rejected|inconclusive)"
    r"\b"
)


def tone(kind: str, status: str, title: str, outcome: str | None = None) -> str:
    """The style of an event's title, from its status and ``outcome``; without one, from the first such word in it."""
    if status in ("error", "refused"):
        return "red"
    if status == "interrupted":
        return "yellow"
    if kind == "mark":
        return "red"
    if kind in MARKS:
        word = outcome or ((found := _WORDS.search(title.lower())) and found.group(1)) or ""
        return OUTCOME_STYLES.get(word.replace("_", " "), "")
    quiet, loud = ("tool_call", "llm_call", "shadow", "segment", "speculation"), ("stage", "session")
    return "dim" if kind in quiet else "bold" if kind in loud else ""


def diagnosis_text(stage: str, body: Mapping[str, Any], limit: int = SPOKEN_LIMIT) -> Text:
    """A diagnosis: the stage, what fails with the evidence cited, and the advice, each at most ``limit`` characters.

    The Critic's words are in quotes.
    """
    text = Text.assemble("diagnosis: ", (clean(stage), "bold"))
    for failure in body.get("failures", ()):
        cited = ", ".join(clean(str(each)) for each in failure.get("evidence", ()))
        text.append(f"\n- “{shorten(failure.get('description', MISSING), limit)}”").append(f" [{cited}]", "dim")
    if body.get("advice"):
        text.append("\nadvice: ", "dim").append(f"“{shorten(body['advice'], limit)}”")
    return text


def verdict_text(outcome: str, reason: str) -> Text:
    """A verdict's sentence behind its outcome, which is not repeated."""
    words = clean(reason)
    return Text.assemble(outcome_text(outcome), words[len(outcome) :] if words.startswith(outcome) else f": {words}")


def parsed(text: str | None) -> Any:
    """JSON text as data, or the text itself where it is none."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):  # an agent's arguments may be nested more deeply than can be read
        return text


def call_arguments(arguments: Any, limit: int) -> str:
    """The arguments of a tool call as ``name=value``, at most ``limit`` characters."""
    if not isinstance(arguments, dict):
        return shorten(str(arguments), limit)
    shown = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in arguments.items())
    return shorten(", ".join(shown), limit)

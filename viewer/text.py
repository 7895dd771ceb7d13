"""Untrusted text made safe for a terminal, and numbers made readable.

Text of an agent or of a received log may hold escape sequences, control characters or rich markup. It passes `clean`
and is shown as `rich.text.Text`, which never parses markup. As a second guard, the consoles of ``viewer.cli.terminal``
show only what is `visible`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from learning_signal.ledger.wording import amount, shaping_text

MISSING = "-"
AGENT_STYLES = {
    "critic": "magenta",
    "generator": "cyan",
    "validator": "yellow",
    "coordinator": "green",
    "human": "bold blue",
    "outsider": "bold blue",
}
_GOOD, _BAD, _OPEN = "bold green", "red", "yellow"
OUTCOME_STYLES = {
    "pass": _GOOD,
    "passed": _GOOD,
    "promote": _GOOD,
    "promoted": _GOOD,
    "held": _GOOD,
    "approved": _GOOD,
    "done": _GOOD,
    "ok": _GOOD,
    "fail": _BAD,
    "failed": _BAD,
    "keep": _OPEN,
    "kept": _OPEN,
    "roll back": _BAD,
    "rolled back": _BAD,
    "regressed": _BAD,
    "error": _BAD,
    "refused": _BAD,
    "rejected": _BAD,
    "branch failed": _BAD,
    "inconclusive": _OPEN,
    "screened out": _OPEN,
    "not compared": _OPEN,
    "not screened": _OPEN,
    "paused": _OPEN,
    "interrupted": _OPEN,
    "running": "cyan",
}

# CSI (7 and 8 bit), OSC and the other string commands up to their terminator, then two-character escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def evaluation_text(played: int | None) -> str:
    """Env steps of evaluation behind those of training: ``499,200 of evaluation``, or that they were not counted."""
    return "evaluation not counted" if played is None else f"{count(played)} of evaluation"


def clean(text: str, *, lines: bool = False) -> str:
    """``text`` without escape sequences, control and invisible formatting characters.

    Line ends are kept where ``lines`` is true and become single spaces otherwise; tabs become spaces.
    """
    text = str(text)
    if not _is_visible(text):
        text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
        text = visible(text)
    return text if lines else " ".join(text.split())


def visible(text: str) -> str:
    """``text`` without characters that a terminal acts on or that cannot be seen; line ends and tabs stay.

    Left out are control characters (C0, C1, DEL), formatting ones (bidirectional overrides, zero widths), surrogates,
    private ones, and line and paragraph separators.
    """
    if _is_visible(text.replace("\t", "")):
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _UNSEEN)


def _is_visible(text: str) -> bool:
    """Whether ``text`` is sure to have nothing but line ends and what can be seen."""
    return text.isprintable() or text.replace("\n", "").isprintable()


def shorten(text: str, limit: int) -> str:
    """``text`` on one line, at most ``limit`` characters, with an ellipsis where something was left out."""
    text = clean(text)
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def styled(text: str | None, style: str = "", *, lines: bool = False) -> Text:
    """Untrusted ``text`` as a `rich.text.Text`; a dash where it is None."""
    return Text(MISSING if text is None else clean(text, lines=lines), style=style)


def agent_text(agent: str | None) -> Text:
    """An agent's name in its colour; code itself is shown as ``session``."""
    name = agent or "session"
    return styled(name, AGENT_STYLES.get(name, "dim"))


def outcome_text(outcome: str | None) -> Text:
    """An outcome, action or status in its colour."""
    word = None if outcome is None else outcome.replace("_", " ")
    return styled(word, OUTCOME_STYLES.get(word or "", ""))


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """``value`` to ``digits`` significant digits, or a dash where it is None."""
    if value is None:
        return MISSING
    return f"{value:{'+' if sign else ''}.{digits}g}"


def count(value: int | None) -> str:
    """A whole number with thousands separated, or a dash where it is None."""
    return MISSING if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """Seconds as ``8.3 s``, from a minute on as a budget has them: ``3 min 5 s``; a dash where it is None."""
    if seconds is None:
        return MISSING
    return f"{seconds:.1f} s" if seconds < 59.95 else limit_text("time", round(seconds))


def limit_text(name: str, value: float) -> str:
    """An amount of what a budget limits (``env_steps``, ``tokens``, ``time`` in seconds, ``usd``): ``3.2 M tokens``."""
    return amount(clean(name), value)


def sparkline(values: Iterable[float | None], width: int = 16) -> str:
    """The last ``width`` values as block characters between their least and greatest; gaps where None."""
    shown = list(values)[-width:]
    known = [value for value in shown if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    level = [None if v is None else int((v - low) / span * 7 + 0.5) if span > 0 else 0 for v in shown]
    return "".join(" " if each is None else _SPARKS[each] for each in level)


def bar(share: float, width: int) -> str:
    """A bar filled to ``share`` (in [0, 1]) of ``width`` characters, in eighths of a character."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)


def difference_bar(value: float | None, largest: float, width: int = 8) -> Text:
    """A bar for a signed difference, red to the left of the axis and green to its right.

    ``largest`` is the magnitude that fills ``width`` characters.
    """
    if value is None:
        return Text(" " * width + "│")
    length = 0 if largest <= 0 else max(1 if value else 0, round(abs(value) / largest * width))
    length = min(width, length)
    if value < 0:
        return Text.assemble((("█" * length).rjust(width), "red"), "│" + " " * width)
    return Text.assemble(" " * width + "│", (("█" * length).ljust(width), "green"))


def joined(parts: Sequence[Text], separator: str = "  ") -> Text:
    """``parts`` in one line, the empty ones left out."""
    return Text(separator).join([part for part in parts if part.plain])


def shaping_line(shaping: Mapping[str, Any] | None) -> str:
    """A shaping (its plain data, whoever wrote it) on one line; a dash where it is None."""
    return MISSING if shaping is None else clean(shaping_text(shaping))

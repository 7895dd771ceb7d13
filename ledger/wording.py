"""Amounts, shapings and commands in words, for the program that writes a ledger and for all that read it.

This room is the only one that both may import: so they read the same everywhere.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEDGER = Path("runs/ledger.db")
"""Where the log is unless another place is named."""
_PACKAGE = Path(__file__).resolve().parents[1]
OUTSIDER = "outsider"
"""Who asks a session for something and is none of its agents: the agent and the kind of such events."""
UNITS = {"env_steps": "env steps", "tokens": "tokens", "time": "", "usd": "USD"}
"""The limits of a budget and their units; time is in seconds."""


def amount(name: str, value: float) -> str:
    """A number of a limit for a reader: ``1.5 M env steps``, ``1 h 30 min``, ``2.50 USD``, ``0.0042 USD``."""
    if name == "time":
        minutes, seconds = divmod(math.ceil(value), 60)
        hours, minutes = divmod(minutes, 60)
        parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds} s" if seconds else ""]
        return " ".join(part for part in parts if part) or "0 s"
    if name == "usd":
        return f"{_dollars(value)} USD"
    return f"{short(value)} {UNITS.get(name, name.replace('_', ' '))}"


def short(value: float) -> str:
    """A count in short: ``950``, ``12.3 k``, ``1.75 M``."""
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f}".rstrip("0").rstrip(".") + f" {letter}"
    return f"{value:g}"


def shadow_of(role: str) -> str:
    """Who the calls of a backend are counted for that is asked beside the agent of ``role`` (``--shadow``)."""
    return f"{role}'s shadow"


def cut_off_text(env_steps: int, unknown: int) -> str:
    """What was cut off: env steps that were trained in vain, and segments of which that is unknown."""
    segments = f"{unknown} segment{'s' if unknown > 1 else ''}"
    parts = [f"{env_steps:,} env steps of training"] if env_steps else []
    parts += [f"what {segments} had trained is unknown"] if unknown else []
    return f"cut off: {'; '.join(parts) or 'nothing'}"


def headline(text: str, limit: int = 160) -> str:
    """The first line of a message, with an ellipsis where it is cut; the title of its event."""
    lines = text.strip().splitlines()
    line = lines[0] if lines else "(empty)"
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def shaping_text(shaping: Mapping[str, Any]) -> str:
    """A shaping (its plain data) on one line, such as ``beta 1.0: -1.0*distance (team)``; its numbers are exact."""
    terms, beta = shaping.get("terms") or (), shaping.get("beta")
    if not terms or beta == 0:
        return "no shaping"
    parts = []
    for term in terms:
        potential = str(term.get("potential", "-"))
        potential = potential if potential.isidentifier() else f"({potential})"
        parts.append(f"{term.get('weight', '-')}*{potential} ({term.get('scope', '-')})")
    anneal = shaping.get("anneal")
    fall = f" falling to 0 over env steps {anneal['start']} to {anneal['end']}" if anneal else ""
    return f"beta {beta}{fall}: " + " + ".join(parts)


def shaping_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What ``after`` changes of ``before`` (both as plain data), a phrase each; nothing where they are the same."""
    old, new = _terms(before), _terms(after)
    changes = [f"adds {_weighted(weight, *term)}" for term, weight in new.items() if term not in old]
    changes += [f"takes out {_weighted(weight, *term)}" for term, weight in old.items() if term not in new]
    changes += [
        f"weighs {_scoped(*term)} {weight} in place of {old[term]}"
        for term, weight in new.items()
        if term in old and old[term] != weight
    ]
    if old and new and before.get("beta") != after.get("beta"):
        changes.append(f"beta {after.get('beta')} in place of {before.get('beta')}")
    if new and before.get("anneal") != after.get("anneal"):
        fall = after.get("anneal")
        changes.append(
            f"beta falls to 0 over env steps {fall['start']} to {fall['end']}" if fall else "beta falls no longer"
        )
    return changes


def _terms(shaping: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """The weight of each potential and scope; nothing of a shaping that is none."""
    if shaping.get("beta") == 0:
        return {}
    return {
        (str(term.get("potential", "-")), str(term.get("scope", "-"))): term.get("weight", "-")
        for term in shaping.get("terms") or ()
    }


def _scoped(potential: str, scope: str) -> str:
    return f"{potential if potential.isidentifier() else f'({potential})'} ({scope})"


def _weighted(weight: Any, potential: str, scope: str) -> str:
    return f"{weight}*{_scoped(potential, scope)}"


def program() -> str:
    """The command that this program was started with; ``learning-signal`` unless it was run from a file of ours."""
    started = Path(sys.argv[0])
    if started.resolve().parent == _PACKAGE:
        known = {"run.py": f"python {shlex.quote(str(started))}", "__main__.py": "python -m learning_signal"}
        return known.get(started.name, "learning-signal")
    return "learning-signal"


def goes_on(session: str) -> str:
    """How the event begins that a resume of the session writes."""
    return f"session {session} goes on"


def command(*words: str) -> str:
    """The command that runs this program with ``words``, quoted for a shell."""
    return f"{program()} {shlex.join(words)}"


def resume_command(session: str, ledger: Path, budget: str | None = None) -> str:
    """The command that resumes a session, with a new ``budget`` where the old one is used up."""
    more = f" --budget {shlex.quote(budget)}" if budget else ""
    return f"{command('resume', session)}{ledger_option(ledger)}{more}"


def ledger_option(ledger: Path) -> str:
    """The option that finds ``ledger`` again, where it is not the default one."""
    return "" if Path(ledger) == LEDGER else f" --ledger {shlex.quote(str(ledger))}"


def _dollars(value: float) -> str:
    """Cents, and below ten of them two digits: a few tokens cost less than a cent."""
    if value >= 0.1 or value <= 0:
        return f"{value:.2f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}".rstrip("0")

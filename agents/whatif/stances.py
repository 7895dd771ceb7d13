"""What an answer comes to: the calls it makes, what a submission says, and whether two answers agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from learning_signal.ledger.wording import headline, shaping_text

ENDING = ("submit_diagnosis", "submit_proposal", "submit_validation", "promote", "keep", "send_back", "roll_back")
"""The tools that end a phase."""
_SAYS = {
    "submit_diagnosis": ("stage",),
    "submit_validation": ("candidate", "outcome"),
    "confirm": ("candidate",),
    "promote": ("candidate",),
    "send_back": ("candidate",),
    "ask": ("agent",),
}
"""Tool -> the arguments that are compared. Words are not: no two models choose the same."""


@dataclass(frozen=True)
class Stance:
    """An answer, as it is compared."""

    text: str
    """On one line."""
    formulas: tuple[str, ...] = ()
    """The shapings that a proposal has, in its order."""
    calls: tuple[str, ...] = ()
    """What each call says, without its words."""

    def agrees(self, other: Stance) -> bool:
        """Whether both make the same calls to the same effect; two proposals: of the same shapings, in any order."""
        return (sorted(self.calls), set(self.formulas)) == (sorted(other.calls), set(other.formulas))


def stance_of(calls: Iterable[tuple[str, str]], words: str = "") -> Stance:
    """The stance of an answer with these calls (name and arguments as written), or with ``words`` alone."""
    said, formulas, shown = [], [], []
    for name, arguments in calls:
        given = _read(arguments)
        own = _formulas(given) if name == "submit_proposal" else []
        formulas += own
        values = [f"{given.get(key)}" for key in _SAYS.get(name, ())]
        said.append(" ".join([name, *values]))
        shown.append(f"{name}: {len(own)} candidate{'s' * (len(own) != 1)}" if own else said[-1])
    if not said:
        return Stance(f"no call: {headline(words, 80)}", calls=("no call",))
    return Stance(", ".join(shown), tuple(formulas), tuple(said))


def _read(arguments: str) -> Mapping[str, Any]:
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _formulas(proposal: Mapping[str, Any]) -> list[str]:
    candidates = proposal.get("candidates")
    return [_formula(each) for each in candidates if isinstance(each, dict)] if isinstance(candidates, list) else []


def _formula(draft: Mapping[str, Any]) -> str:
    """A draft of a shaping on one line; as it is written where it is none."""
    terms = draft.get("terms")
    if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
        return headline(json.dumps(draft, ensure_ascii=False), 120)
    try:
        beta = float(draft.get("beta", 0))
        plain = [{**term, "weight": float(term.get("weight", 0))} for term in terms]
    except (TypeError, ValueError):
        return headline(json.dumps(draft, ensure_ascii=False), 120)
    steps = draft.get("anneal_steps")
    return shaping_text({"beta": beta, "terms": plain}) + (f", annealed over {steps} env steps" if steps else "")

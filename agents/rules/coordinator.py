"""The Coordinator by rule: roll back what regressed, promote what passed, keep otherwise."""

from __future__ import annotations

import re
from typing import Any

from learning_signal.agents.rules.reading import (
    Answer,
    Conversation,
    Request,
    is_marginal,
    items,
    mapping,
    number,
    text,
)

DECISIONS = ("promote", "keep", "send_back", "roll_back")
MARGINAL = 0.8
"""A pass with a p above this share of its level is worth a question, unless no smaller one was possible."""


def step(conversation: Conversation) -> Answer:
    """The decision, after at most one question to the Validator."""
    brief = conversation.brief
    allowed = [one for one in items(brief.get("allowed")) if isinstance(one, str)]
    refused = {call.name: call.error for call in conversation.named(*DECISIONS) if not call.ok}
    if len(conversation.named(*DECISIONS)) >= 4:
        return Answer(f"Every decision was refused; the last refusal was: {list(refused.values())[-1]}")
    open_actions = [action for action in allowed if action not in refused]
    candidate = text(brief.get("promotable"))
    if "roll_back" in open_actions and ("promote" not in allowed or _regressed(brief)):
        return _decide("roll_back", {"reason": _roll_back_reason(brief)})
    if "send_back" in open_actions and not conversation.named("send_back"):
        better = _succeeds_more(brief, candidate)
        if better:
            reason = (
                f"{candidate} passed on progress alone, and {better} gained more sparse return in the screen: I want "
                f"{better} confirmed before I decide."
            )
            return _decide("send_back", {"candidate": better, "reason": reason})
    if "promote" in open_actions and candidate:
        verdict = _verdict(brief, candidate)
        asked = conversation.named("ask")
        if _marginal(verdict) and (number(brief.get("questions_left")) or 0) >= 1 and not asked:
            question = (
                f"Would you promote {candidate}? Answer yes or no first, then say whether its seeds agree "
                "and whether the interval of the difference stays above 0."
            )
            thought = f"{candidate} passed, but narrowly or on progress alone: I ask the Validator before I decide."
            return Answer(thought, (Request("ask", {"agent": "validator", "question": question}),))
        advice = text(mapping(asked[-1].result if asked else None).get("answer")) or ""
        if not re.match(r"\W*no\b", advice, re.IGNORECASE):
            return _decide("promote", {"candidate": candidate, "reason": _promote_reason(verdict, candidate, advice)})
        return _decide("keep", {"reason": f"{candidate} passed, but the Validator advises against it: {advice}"})
    if "keep" in open_actions or (not allowed and "keep" not in refused):
        return _decide("keep", {"reason": _keep_reason(brief, refused)})
    for action in open_actions:
        if action == "roll_back":
            return _decide(action, {"reason": _roll_back_reason(brief)})
    listed = ", ".join(allowed) or "nothing"
    return Answer(f"I cannot decide: allowed is {listed}, and refused were {', '.join(refused) or 'none'}.")


def _decide(action: str, arguments: dict[str, Any]) -> Answer:
    reason = arguments["reason"][:4000]
    return Answer(
        f"{action.replace('_', ' ').capitalize()}: {reason}", (Request(action, arguments | {"reason": reason}),)
    )


def _succeeds_more(brief: dict[str, Any], candidate: str | None) -> str | None:
    """A candidate that may still be confirmed and gained more sparse return in the screen than one that passed without.

    None where the one that passed gained sparse return itself.
    """
    if candidate is None or _verdict(brief, candidate).get("measure") != "progress":
        return None
    open_ = [name for name in items(brief.get("confirmable")) if isinstance(name, str)]
    rows = [mapping(row) for one in items(brief.get("screens")) for row in items(mapping(one).get("ranking"))]
    gains = {str(row.get("candidate")): number(row.get("sparse_return_gain")) or 0.0 for row in rows}
    best = max(open_, key=lambda name: gains.get(name, 0.0), default=None)
    if best is None or gains.get(best, 0.0) <= 2 * max(gains.get(candidate, 0.0), 0.0):
        return None
    return best


def _regressed(brief: dict[str, Any]) -> bool:
    return mapping(brief.get("probation")).get("outcome") == "regressed"


def _verdict(brief: dict[str, Any], candidate: str | None) -> dict[str, Any]:
    """The last verdict on ``candidate`` (on any, for None); empty where there is none."""
    rows = [mapping(one) for one in items(brief.get("verdicts"))]
    rows = [row for row in rows if candidate is None or row.get("candidate") == candidate]
    return rows[-1] if rows else {}


def _marginal(verdict: dict[str, Any]) -> bool:
    """Whether a verdict passed on progress alone, or with a p near its level."""
    return verdict.get("measure") == "progress" or is_marginal(verdict, MARGINAL)


def _sentence(words: str) -> str:
    words = words.strip()
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _promote_reason(verdict: dict[str, Any], candidate: str, advice: str) -> str:
    why = text(verdict.get("reason")) or "the gate passed it"
    sentences = [f"{candidate} passed: {_sentence(why)}"]
    if verdict.get("measure") == "progress":
        sentences.append("It is promoted as evidence of learning, on probation for one stage, not as success.")
    if advice:
        sentences.append(f"The Validator was asked and answered: {_sentence(advice)}")
    return " ".join(sentences)


def _keep_reason(brief: dict[str, Any], refused: dict[str, str | None]) -> str:
    refusal = refused.get("promote")
    if refusal:
        return f"The promotion was refused: {_sentence(refusal[:1000])} The shaping stays as it is."
    rows = [mapping(one) for one in items(brief.get("verdicts"))]
    sentences = [
        f"{row.get('candidate') or 'No candidate'}: {_sentence(text(row.get('reason')) or str(row.get('outcome')))}"
        for row in rows
    ]
    if not sentences:
        return "No verdict was reached in this round, so nothing may change; the shaping stays as it is."
    return " ".join(["Nothing passed.", *sentences[-2:], "The shaping stays as it is."])


def _roll_back_reason(brief: dict[str, Any]) -> str:
    why = text(mapping(brief.get("probation")).get("reason")) or "the main run is worse than before the last promotion"
    return f"The last promotion did not hold: {_sentence(why)} The main run returns to where it stood before."


def answer(conversation: Conversation) -> str:
    """The decision, or the open question."""
    decisions = [one for one in conversation.objects if text(one.get("reason")) and len(one) <= 2]
    if decisions:
        return decisions[-1]["reason"]
    verdict = _verdict(conversation.brief, None)
    if verdict:
        return (
            f"The last verdict is {verdict.get('outcome')}: "
            f"{_sentence(text(verdict.get('reason')) or 'no reason given')}"
        )
    return "I have seen neither a verdict nor a decision in my conversation."

"""Ideas held against a preview on recorded episodes before they are proposed: mended where that is possible.

A preview tells what a shaping pays for, not how agents learn with it: only what contradicts the idea itself counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from learning_signal.agents.rules.evidence import View
from learning_signal.agents.rules.ideas import PAID_BACK, Idea, Term, change_at_success, from_shaping, round_to, uses
from learning_signal.agents.rules.reading import Call, Conversation, Request, fields, items, mapping, number, shown

TOOL = "preview_shaping"
LOOKED_AT = 6
"""Ideas that are previewed: those proposed, and some to take the places of what is dropped."""
MOSTLY = 0.5
"""Phi falls at successes where it falls in more than this share of the rewarded steps."""
TAKEN_BACK = 0.75
"""A fall of more than this share of what a success earns makes agents put the success off."""


def preview(ideas: Sequence[Idea]) -> Request:
    """The call that looks at ``ideas``."""
    return Request(TOOL, {"candidates": [_bare(idea) for idea in ideas]})


def may_look(conversation: Conversation) -> bool:
    """Whether ideas can be previewed and have not been yet."""
    return TOOL in conversation.offered and not conversation.named(TOOL)


def checked(idea: Idea, conversation: Conversation, features: Sequence[View], earned: float | None) -> Idea | None:
    """``idea`` as the preview leaves it: as it is, mended, or None where it contradicts itself and cannot be mended.

    A term against the declared direction of a feature is left out. A Phi that takes back more than ``TAKEN_BACK`` of
    the reward ``earned`` at a success gets a term that gives it back: a feature that a success improves.
    """
    looked_at = list(_looked_at(conversation))
    wrong = {_direction(term) for known, card in looked_at for term in _wrong(known, card)}
    kept = tuple(term for term in idea.terms if _direction(term) not in wrong)
    if len(kept) < len(idea.terms):
        said = " Without what pays for the worse direction on recorded episodes."
        return replace(idea, terms=kept, rationale=idea.rationale + said) if kept else None
    card = next((card for known, card in looked_at if known.effect == idea.effect), {})
    fall = -(number(fields(card, "at_rewarded_steps", "change")) or 0.0)
    falling = number(fields(card, "at_rewarded_steps", "share_falling")) or 0.0
    if earned is None or falling <= MOSTLY or fall <= TAKEN_BACK * earned:
        return idea
    return _paid_back(idea, fall, earned, features)


def _paid_back(idea: Idea, fall: float, earned: float, features: Sequence[View]) -> Idea | None:
    others = [view for view in features if change_at_success(view) > 0 and not uses(idea, view)]
    if not others or idea.beta <= 0:
        return None
    counter = max(others, key=lambda view: change_at_success(view) / view.unit)
    weight = round_to(counter.sign * PAID_BACK * fall / (idea.beta * change_at_success(counter)))
    return replace(
        idea,
        terms=(*idea.terms, (counter.potential, weight, counter.scope)),
        rationale=f"{idea.rationale} On recorded episodes it takes {shown(fall)} back where {shown(earned)} is earned, "
        f"so {counter.name} gives more than that: it improves by {shown(change_at_success(counter))} there.",
    )


def _wrong(idea: Idea, card: dict[str, Any]) -> Iterator[Term]:
    """The terms of a previewed idea that pay against a declared direction."""
    for term, found in zip(idea.terms, map(mapping, items(card.get("terms"))), strict=False):
        paid = (mapping(each) for each in mapping(found.get("pays_for")).values())
        if any(each.get("agrees") is False for each in paid):
            yield term


def _direction(term: Term) -> tuple[str, str, bool]:
    """What a term pays for, whatever its strength."""
    potential, weight, scope = term
    return potential, scope, weight > 0


def _looked_at(conversation: Conversation) -> Iterator[tuple[Idea, dict[str, Any]]]:
    """Every idea that was previewed, with what was found."""
    for call in conversation.named(TOOL):
        yield from zip(_asked(call), map(mapping, items(call.answer.get("candidates"))), strict=False)


def _asked(call: Call) -> list[Idea]:
    return [from_shaping(draft) for draft in items(call.arguments.get("candidates"))]


def _bare(idea: Idea) -> dict[str, Any]:
    terms = [{"potential": name, "weight": weight, "scope": scope} for name, weight, scope in idea.terms]
    return {"terms": terms, "beta": idea.beta, "anneal_steps": idea.anneal_steps}

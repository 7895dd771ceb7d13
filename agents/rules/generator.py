"""The Generator by rule: distinct candidates for the stage, scaled by what was observed, unlike what was tried."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from learning_signal.agents.rules import checks
from learning_signal.agents.rules.chains import chained, find_chain
from learning_signal.agents.rules.evidence import View, behaviour, views
from learning_signal.agents.rules.ideas import (
    Idea,
    alike,
    around,
    for_stage,
    from_shaping,
    round_to,
    scaled,
    shortened,
    uses,
)
from learning_signal.agents.rules.reading import (
    Answer,
    Call,
    Conversation,
    Request,
    fields,
    items,
    mapping,
    number,
    text,
)

MOST_ATTEMPTS = 6
WRONG_SIGN = "wrong sign"
"""The remark after which a candidate is replaced."""
ANSWER = (
    "Its signs are the declared directions, or where none is declared that of the correlation with success; its "
    "strength is that of typical differences between recorded states."
)
"""To every other remark."""
MUTATIONS = (1.6, 0.6, 2.6, 0.35, 4.2, 0.2)


@dataclass(frozen=True)
class Limits:
    """Bounds of a shaping, as the brief gives them."""

    terms: int
    weight: float
    beta: float


def step(conversation: Conversation) -> Answer:
    """Submit as many distinct candidates as are wanted, replacing those that were refused before."""
    brief = conversation.brief
    attempts = conversation.named("submit_proposal")
    refusals = [call for call in attempts if not call.ok]
    if len(refusals) >= MOST_ATTEMPTS:
        return Answer(f"I have no acceptable candidate left; the last refusal was: {refusals[-1].error}")
    count = int(number(brief.get("candidates_wanted")) or 3)
    answered = _answered(refusals[-1]) if refusals else []
    if answered:
        return Answer("I keep these candidates and answer the remarks.", (_submission(answered),))
    if len(refusals) == MOST_ATTEMPTS - 1:
        count = 1
    kept, banned = _after_refusals(refusals)
    limits = _limits(brief)
    avoid = [*_tried(brief), from_shaping(fields(brief, "head", "shaping")), *banned]
    if not attempts and checks.may_look(conversation):
        looked_at = list(islice(_unlike(_stream(conversation, limits), avoid), max(count, checks.LOOKED_AT)))
        if looked_at:
            return Answer("I look at what my ideas pay for on recorded episodes.", (checks.preview(looked_at),))
    chosen = kept[:count]
    chosen += islice(_unlike(_sound(conversation, limits), [*avoid, *chosen]), count - len(chosen))
    if not chosen:
        return Answer("The brief declares no feature I can shape with, so I have no candidate to propose.")
    drafts = [_draft(idea, brief, place) for place, idea in enumerate(chosen)]
    thought = f"I propose {len(drafts)} candidates. " + " ".join(
        f"{place}. {idea.rationale.split('. ')[0].rstrip('.')}." for place, idea in enumerate(chosen, 1)
    )
    return Answer(thought, (_submission(drafts),))


def _submission(drafts: list[dict[str, Any]]) -> Request:
    return Request("submit_proposal", {"candidates": drafts})


def _limits(brief: dict[str, Any]) -> Limits:
    given = mapping(brief.get("limits"))
    return Limits(
        int(number(given.get("terms")) or 8), number(given.get("weight")) or 10.0, number(given.get("beta")) or 10.0
    )


def _stream(conversation: Conversation, limits: Limits) -> Iterator[Idea]:
    """Every idea that fits the limits, best first; at the end other strengths of the same."""
    ideas = [fitted for idea in _ideas(conversation) if (fitted := _fit(idea, limits))]
    yield from ideas
    for factor in MUTATIONS:
        for idea in ideas[:6]:
            fitted = _fit(scaled(idea, factor), limits)
            if fitted:
                yield fitted


def _unlike(ideas: Iterable[Idea], avoid: Sequence[Idea]) -> Iterator[Idea]:
    """Those that are nearly none of ``avoid``, and not nearly one another."""
    known = list(avoid)
    for idea in ideas:
        if not any(alike(idea, other) for other in known):
            known.append(idea)
            yield idea


def _sound(conversation: Conversation, limits: Limits) -> Iterator[Idea]:
    """The ideas that a preview does not speak against, mended where it does and that is possible."""
    brief = conversation.brief
    features = views(brief, brief.get("evidence"))
    earned = number(fields(behaviour(brief.get("evidence")), "successes", "reward"))
    for idea in _stream(conversation, limits):
        mended = checks.checked(idea, conversation, features, earned)
        fitted = mended if mended is None or mended is idea else _fit(mended, limits)
        if fitted is not None:
            yield fitted


def _ideas(conversation: Conversation) -> Iterator[Idea]:
    brief = conversation.brief
    features = _weighed(views(brief, brief.get("evidence")), brief)
    branch_steps = (
        number(fields(brief, "lengths", "branch_steps")) or number(fields(brief, "head", "env_steps")) or 100_000
    )
    # A good episode moves a feature by about two of its deviations.
    beta = round_to((number(brief.get("good_rise")) or 2.0) / 2)
    base = from_shaping(fields(brief, "head", "shaping"))
    stage = (
        text(fields(brief, "diagnosis", "critic_says", "stage")) or text(fields(brief, "head", "stage")) or "exploring"
    )
    best = _closest(brief)
    if best is not None:
        yield from around(best, features, beta)
    yield from _of_chain(brief, base, features, beta)
    yield from for_stage(stage, base, features, int(max(branch_steps, 1)), beta)
    if stage == "regressing" and len(base.terms) == 1:
        yield replace(shortened(base), beta=0.0, rationale="No shaping at all: what is in force seems to do harm.")


def _of_chain(brief: dict[str, Any], base: Idea, features: list[View], beta: float) -> Iterator[Idea]:
    """Ideas of the chain in the evidence, if there is one whose last link is not shaped yet."""
    chain = find_chain(features)
    if chain is None or uses(base, chain.links[-1]):
        return
    # What the last link gains is lost again when the chain begins anew: that must not exceed what a success earns.
    earned = number(fields(behaviour(brief.get("evidence")), "successes", "reward"))
    agents = number(fields(brief, "task", "agents"))
    yield from chained(
        chain, beta if earned is None else min(beta, round_to(earned)), None if agents is None else int(agents)
    )


def _weighed(features: list[View], brief: dict[str, Any]) -> list[View]:
    """Where the evidence gives no numbers at all, the order of the advice counts; otherwise the numbers do."""
    if any(view.mean is not None or view.correlation is not None for view in features):
        return features
    advice = (text(fields(brief, "diagnosis", "critic_says", "advice")) or "").split("Little to gain")[0]
    places = {view.name: re.search(rf"(?<!\w){re.escape(view.name)}(?!\w)", advice) for view in features}
    # A feature that advice does not name keeps its place after those it names (sorting is stable).
    starts = {name: len(advice) + 1 if place is None else place.start() for name, place in places.items()}
    return sorted(features, key=lambda view: starts[view.name])


def _closest(brief: dict[str, Any]) -> Idea | None:
    """In a refinement: the candidate of this round with the largest difference to control, if that is above 0."""
    if not number(brief.get("refinement")):
        return None
    rows = [mapping(row) for row in items(brief.get("tried"))]
    rows = [row for row in rows if row.get("round") == brief.get("round") and number(row.get("difference")) is not None]
    rows = [row for row in rows if (number(row["difference"]) or 0) > 0 and from_shaping(row.get("shaping")).terms]
    return from_shaping(max(rows, key=lambda row: row["difference"])["shaping"]) if rows else None


def _tried(brief: dict[str, Any]) -> list[Idea]:
    return [from_shaping(mapping(row).get("shaping")) for row in items(brief.get("tried"))]


def _fit(idea: Idea, limits: Limits) -> Idea | None:
    """``idea`` inside the limits, moving strength between weights and beta and saying so where some is lost."""
    if len(idea.terms) > limits.terms or len({(name, scope) for name, _, scope in idea.terms}) < len(idea.terms):
        return None
    largest = max((abs(weight) for _, weight, _ in idea.terms), default=0.0)
    factor = max(largest / limits.weight, 1.0)
    terms = tuple((name, round_to(weight / factor, 3), scope) for name, weight, scope in idea.terms)
    beta, rationale = round_to(idea.beta * factor, 3), idea.rationale
    if beta > limits.beta:
        heaviest = max((abs(weight) for _, weight, _ in terms), default=limits.weight)
        room = min(beta / limits.beta, limits.weight / heaviest)
        terms = tuple((name, round_to(weight * room, 3), scope) for name, weight, scope in terms)
        beta = round_to(beta / room, 3)
    if beta > limits.beta:
        rationale += f" (beta {beta:g} would be right by the deviation; {limits.beta:g} is the limit.)"
        beta = limits.beta
    if any(abs(weight) > limits.weight or weight == 0 for _, weight, _ in terms):
        return None
    return replace(idea, terms=terms, beta=beta, rationale=rationale)


def _after_refusals(refusals: list[Call]) -> tuple[list[Idea], list[Idea]]:
    """Ideas of the last submission that were not named in its refusal, and every idea that was ever refused."""
    accepted: list[Idea] = []
    banned: list[Idea] = []
    for call in refusals:
        drafts = [_undrafted(draft) for draft in items(call.arguments.get("candidates"))]
        refused = _refused_places(call.refusal) & set(range(len(drafts))) or set(range(len(drafts)))
        banned += [draft for place, draft in enumerate(drafts) if place in refused]
        accepted = [draft for place, draft in enumerate(drafts) if place not in refused]
    return accepted, banned


def _answered(call: Call) -> list[dict[str, Any]]:
    """The drafts of a submission with an answer to every remark; none where one of them is to be replaced."""
    drafts = [mapping(draft) for draft in items(call.arguments.get("candidates"))]
    remarked = {mapping(one).get("candidate") for one in items(call.refusal.get("remarked"))}
    if _refused_places(call.refusal) or not remarked:
        return []
    return [draft | {"answer": ANSWER} if place in remarked else draft for place, draft in enumerate(drafts, 1)]


def _refused_places(refusal: dict[str, Any]) -> set[int]:
    """Which candidates of a submission are to be replaced, counted from 0; empty where that is not said."""
    if refusal.get("code") not in ("candidates", "arguments"):
        return set()
    remarked = [mapping(one) for one in items(refusal.get("remarked"))]
    wrong = [one.get("candidate") for one in remarked if WRONG_SIGN in items(one.get("kinds"))]
    return {place - 1 for place in (*items(refusal.get("refused")), *wrong) if isinstance(place, int)}


def _undrafted(draft: Any) -> Idea:
    idea = from_shaping(draft)
    steps = number(mapping(draft).get("anneal_steps"))
    said = text(mapping(draft).get("rationale")) or "as before"
    return replace(idea, anneal_steps=None if steps is None else int(steps), rationale=said)


def _draft(idea: Idea, brief: dict[str, Any], place: int) -> dict[str, Any]:
    return {
        "terms": [{"potential": name, "weight": weight, "scope": scope} for name, weight, scope in idea.terms],
        "beta": idea.beta,
        "anneal_steps": idea.anneal_steps,
        "rationale": idea.rationale[:4000],
        "forecast": _forecast(idea, brief, place),
    }


def _forecast(idea: Idea, brief: dict[str, Any], place: int) -> dict[str, Any]:
    """The measure the gate will look at, a modest change, and a probability learnt from this session's record."""
    sparse = number(fields(brief, "head", "sparse_return")) or 0.0
    most = number(fields(brief, "task", "max_return")) or 1.0
    measurable = fields(brief, "head", "progress") is not None or fields(brief, "task", "progress") is not None
    floor = number(fields(brief, "gate", "floor")) or 0.0
    measure = "progress" if measurable and sparse < floor else "sparse_return"
    rows = [mapping(row) for row in items(brief.get("tried"))]
    given = [number(row.get("difference")) for row in rows if row.get("measure") == measure]
    past = [value for value in given if value is not None]
    gains = sorted(value for value in past if value > 0)
    usual = 0.01 if measure == "progress" else 0.05 * max(sparse, floor, 0.01 * most)
    change = gains[len(gains) // 2] if gains else usual
    prior = max(idea.trust - 0.05 * place, 0.1)
    probability = (len(gains) + 4 * prior) / (len(past) + 4)
    return {"measure": measure, "change": round_to(change), "probability": round_to(probability)}


def answer(conversation: Conversation) -> str:
    """The first candidate of the last proposal and why."""
    proposals = [items(one.get("candidates")) for one in conversation.objects if items(one.get("candidates"))]
    drafts = [draft for draft in map(mapping, proposals[-1] if proposals else []) if text(draft.get("rationale"))]
    if not drafts:
        return "I have no proposal in my conversation to answer from."
    chance = number(fields(drafts[0], "forecast", "probability"))
    sure = "" if chance is None else f" I gave it a probability of {chance:g}."
    return f"My first candidate of {len(drafts)}: {drafts[0]['rationale']}{sure}"

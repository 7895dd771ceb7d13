"""Shaping ideas: building blocks (single, sum, sharp, worst agent ...) and their order in each stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from learning_signal.agents.rules.evidence import View, ranked, undirected
from learning_signal.agents.rules.reading import items, mapping, number, shown, text

SAME = 0.3
"""Shapings whose effective weights differ by less than this share are the same idea."""

PAID_BACK = 1.25
"""A term that counts successes gives so many times what the others lose at a success."""

Term = tuple[str, float, str]
"""Potential, weight, scope."""


@dataclass(frozen=True)
class Idea:
    """A shaping and why: what a candidate is made of before it is numbered and forecast."""

    terms: tuple[Term, ...]
    beta: float
    rationale: str
    anneal_steps: int | None = None
    trust: float = 0.5
    """Prior probability of being better than control."""

    @property
    def effect(self) -> dict[tuple[str, str], float]:
        """Effective weight (beta times weight) of each potential, which is all that learning sees."""
        return {("".join(name.split()), scope): self.beta * weight for name, weight, scope in self.terms}


def alike(a: Idea, b: Idea) -> bool:
    """Whether two shapings do nearly the same: effective weights within ``SAME`` and both annealed or neither."""
    if (a.anneal_steps is None) != (b.anneal_steps is None):
        return False
    left, right = a.effect, b.effect
    size = max(math.hypot(*left.values()), math.hypot(*right.values()))
    difference = math.hypot(*(left.get(key, 0.0) - right.get(key, 0.0) for key in left.keys() | right.keys()))
    return difference <= SAME * size


def from_shaping(shaping: Any) -> Idea:
    """The shaping configuration of a brief as an idea; unreadable terms are left out."""
    terms = []
    for row in map(mapping, items(mapping(shaping).get("terms"))):
        name, weight, scope = text(row.get("potential")), number(row.get("weight")), row.get("scope")
        if name and weight and scope in ("team", "agent"):
            terms.append((name, weight, scope))
    anneal = mapping(mapping(shaping).get("anneal"))
    start, end = number(anneal.get("start")), number(anneal.get("end"))
    steps = int(end - start) if start is not None and end is not None and end > start else None
    return Idea(tuple(terms), number(mapping(shaping).get("beta")) or 0.0, "", steps)


def round_to(value: float, digits: int = 2) -> float:
    """``value`` to so many significant digits."""
    return float(f"{value:.{digits}g}")


def single(view: View, beta: float) -> Idea:
    """One feature in typical differences between states; ``beta`` is what one of them is worth."""
    return Idea(
        (_term(view),),
        beta,
        f"One clear direction: {view.describe()}. Its weight is one over {shown(view.span)}, a typical difference "
        f"between states, with the sign of the declared direction{_at_the_end(view)}.",
    )


def _at_the_end(view: View) -> str:
    if view.potential == view.name:
        return ""
    end = "bad end, as episodes that end early are the worse ones" if view.ends_badly else "good end"
    return f"; it is 0 at the {end}, because Phi counts as 0 once an episode has ended"


def _term(view: View, share: float = 1.0) -> Term:
    return view.potential, round_to((view.sign or 1) * share / view.span), view.scope


def total(chosen: Sequence[View], beta: float) -> Idea:
    """Several features, each by its own deviation, with equal say."""
    names = " and ".join(view.name for view in chosen)
    return Idea(
        tuple(_term(view) for view in chosen),
        beta,
        f"{names} together, each by its own typical difference between states, so that none drowns the other: "
        + "; ".join(view.describe() for view in chosen)
        + ".",
    )


def counted(chosen: Sequence[View], features: Sequence[View], beta: float) -> Idea | None:
    """``total`` of ``chosen`` with a feature that a success improves, so that the whole potential does not fall there.

    None where the evidence shows no fall, or no other feature that improves: a distance to the next target jumps up
    when one is reached, and without a term that counts those reached the shaping punishes success.
    """
    fall = -sum(change_at_success(view) / view.span for view in chosen)
    others = [view for view in features if view not in chosen and change_at_success(view) > 0]
    if fall <= 0 or not others:
        return None
    counter = max(others, key=lambda view: change_at_success(view) / view.unit)
    base = total(chosen, beta) if len(chosen) > 1 else single(chosen[0], beta)
    weight = round_to(counter.sign * PAID_BACK * fall / change_at_success(counter))
    return replace(
        base,
        terms=(*base.terms, (counter.potential, weight, counter.scope)),
        rationale=f"{base.rationale} A success takes {shown(fall)} of this back, and {counter.name} gives more than "
        f"that: it improves by {shown(change_at_success(counter))} there.",
    )


def change_at_success(view: View) -> float:
    """Improvement of a feature at a success in the declared direction; 0 where unknown."""
    before, after = view.around_success or (0.0, 0.0)
    return view.sign * (after - before)


def near_good_end(view: View) -> str | None:
    """An expression that rises by nearly 1, steeply near the good end, where it is 0 (or 1 where endings are failures);
    None where there is no finite end to reach.
    """
    if not view.in_expressions or view.good is None or not math.isfinite(view.good):
        return None
    scale = round_to(max((view.room if view.room else view.unit) / 3, view.unit / 4, 1e-3))
    gap = f"({view.name} - {view.good:g})" if view.sign < 0 else f"({view.good:g} - {view.name})"
    if view.good == 0 and view.sign < 0:
        gap = view.name
    return f"exp(-{gap} / {scale:g})" + ("" if view.ends_badly else " - 1")


def sharp(view: View, size: float) -> Term | None:
    """A term that rises by ``size`` to the good end of ``view``, and hardly far from it."""
    potential = near_good_end(view)
    return None if potential is None else (potential, size, view.scope)


def worst_agent(view: View, beta: float) -> Idea | None:
    """The agent that is worst off, as a team term; None for what is no agent feature with a direction."""
    if view.scope != "agent" or view.sign == 0 or not view.in_expressions:
        return None
    worst = f"{'max' if view.sign < 0 else 'min'}({view.name})"
    potential, weight, _ = _term(view)
    return Idea(
        ((potential.replace(view.name, worst), weight, "team"),),
        beta,
        f"The whole team is paid for its worst-off agent in {view.describe()}, so that nobody is left behind.",
    )


def extended(base: Idea, view: View, beta: float) -> Idea:
    """``base`` with one more feature, of which one deviation is worth ``beta``."""
    return replace(
        base,
        terms=(*base.terms, _term(view, _share(base, beta))),
        anneal_steps=None,
        rationale=f"Keep what is in force and add the next feature: {view.describe()}.",
    )


def _share(base: Idea, beta: float) -> float:
    """The weight that is worth ``beta`` under the beta of ``base``, which may be as small as a tenth of it."""
    return beta / max(base.beta, beta / 10)


def sharpened(base: Idea, view: View, beta: float) -> Idea | None:
    """``base`` with a steep term near the good end of ``view``, worth three deviations there."""
    term = sharp(view, round_to(3.0 * _share(base, beta)))
    if term is None:
        return None
    return replace(
        base,
        terms=(*base.terms, term),
        anneal_steps=None,
        rationale=f"Keep what is in force and pay more for the last stretch: {term[0]} rises steeply near the good "
        f"end of {view.describe()}.",
    )


def scaled(base: Idea, factor: float) -> Idea:
    """``base`` with another strength."""
    word = "Stronger" if factor > 1 else "Weaker"
    return replace(
        base,
        beta=round_to(base.beta * factor),
        anneal_steps=None,
        rationale=f"{word}: the same potential with beta {shown(base.beta)} -> {shown(round_to(base.beta * factor))}.",
    )


def annealed(base: Idea, steps: int) -> Idea:
    """``base`` with beta falling to 0, so that the sparse reward takes over."""
    return replace(
        base,
        anneal_steps=steps,
        rationale=f"Let beta fall to 0 over {steps} env steps: the potential has done its work and the sparse "
        "reward should take over.",
    )


def shortened(base: Idea) -> Idea:
    """``base`` without its last term."""
    name = base.terms[-1][0]
    return replace(base, terms=base.terms[:-1], rationale=f"Remove what was added last: {name}.", anneal_steps=None)


def uses(idea: Idea, view: View) -> bool:
    """Whether a feature's name stands in any term of ``idea`` (as a whole word)."""
    for name, _, _ in idea.terms:
        words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in name).split()
        if name == view.name or view.name in words:
            return True
    return False


def fresh(features: list[View], beta: float) -> Iterator[Idea]:
    """Ideas for a run without shaping, team features first; ``beta`` is what one deviation is worth.

    An agent feature alone is quickly learnt, so it wins short branches, but agents rewarded individually crowd around
    the same target and stop there; beside a team feature it improves credit assignment. A team feature of much less
    promise is not put first.
    """
    order = ranked(features)
    team = [view for view in order if view.scope == "team" and view.promise() > 0.5 * order[0].promise()]
    agent = [view for view in order if view.scope == "agent"]
    first = (team or agent)[:1]
    yield from (single(view, beta) for view in first)
    if len(team) > 1:
        yield total(team[:2], beta)
    if team and agent:
        yield total([team[0], agent[0]], beta)
    yield from filter(None, (worst_agent(view, beta) for view in agent[:1]))
    yield from filter(None, (counted(chosen, features, beta) for chosen in ([*team[:1], *agent[:1]], first)))
    if len(order) > 2:
        yield total(order[:3], beta)
    if first and (steep := sharpened(single(first[0], beta), first[0], beta)):
        yield replace(steep, rationale=f"Plain and steep near the good end: {first[0].describe()}.")
    yield from (single(view, beta) for view in [*team[1:], *agent])
    yield from filter(None, (worst_agent(view, beta) for view in agent[1:]))
    yield from (total([first[0], view], beta) for view in order if view not in first)
    yield from correlated(features, beta)


def correlated(features: list[View], beta: float) -> Iterator[Idea]:
    """Late candidates: features without direction that the evidence ties to success."""
    for view in undirected(features):
        # No bound of it is known to be a good end.
        guessed = replace(view, sign=1 if (view.tie or 0.0) > 0 else -1, low=None, high=None)
        yield replace(
            single(guessed, beta),
            trust=0.3,
            rationale=f"A guess: {view.describe()} has no declared direction; the sign is that of its correlation.",
        )


def for_stage(stage: str, base: Idea, features: list[View], branch_steps: int, beta: float) -> Iterator[Idea]:
    """Ideas for a run with the shaping ``base`` in force (or without terms), most promising first.

    ``beta`` is what one deviation is worth in new terms, ``branch_steps`` the env steps of a branch.
    """
    if not base.terms:
        yield from fresh(features, beta)
        return
    order = ranked(features)
    used = [view for view in order if uses(base, view)]
    unused = [view for view in order if not uses(base, view)]
    added = [extended(base, view, beta) for view in unused]
    steep = [idea for view in used[:2] if (idea := sharpened(base, view, beta))]
    swapped = [single(view, beta) for view in unused]
    stronger, weaker = [scaled(base, 2.0)], [scaled(base, 0.5)]
    fading = [annealed(base, steps * branch_steps) for steps in (3, 6)] if base.anneal_steps is None else []
    shorter = [shortened(base)] if len(base.terms) > 1 else []
    if stage == "regressing":
        plan = [weaker, shorter, fading[:1], swapped[:2], steep, added, stronger]
    elif stage == "plateau":
        plan = [steep[:1], added[:1], fading[:1], swapped[:1], stronger, added[1:], steep[1:], weaker, swapped[1:]]
    else:
        plan = [added[:1], steep[:1], swapped[:1], stronger, added[1:], swapped[1:], steep[1:], fading, weaker]
    for group in plan:
        yield from group
    yield from fresh(features, beta)


def around(best: Idea, features: list[View], beta: float) -> Iterator[Idea]:
    """Ideas for a refinement: keep the direction of the candidate that came closest, change strength and terms."""
    order = ranked(features)
    unused = [view for view in order if not uses(best, view)]
    steep = [idea for view in order if uses(best, view) and (idea := sharpened(best, view, beta))]
    yield from (extended(best, view, beta) for view in unused[:1])
    yield from steep[:1]
    yield scaled(best, 2.0)
    yield scaled(best, 0.5)

"""Chains: parts of the work that follow one another, of which the last waits for the others; found in the evidence.

A feature that stays at its worst value until another one is near its best is the later of the two. A shaping of either
alone stops there: the first is at its best long before a success, and the last hardly ever moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from learning_signal.agents.rules.evidence import View
from learning_signal.agents.rules.ideas import Idea, round_to, scaled
from learning_signal.agents.rules.reading import shown

REACHED = 0.6
"""A link is nearer to its best value at a success than on average, by at least this share of the distance."""
SWITCH = 0.1
"""A feature that varies by less than this share of its way once it no longer waits is a switch: it is sparse."""
STARTS_GOOD = 0.1
"""A feature starts at its best if it is then no further from it than this share of its mean distance."""
LONG_BEFORE = 5.0
"""The first link holds its value at a success at least so many times as long as the last one, and steps."""
SAME_MOMENT = 0.75
"""Features whose values at a success were held for times of at least this ratio came to them at the same moment."""
EARLIER = 1 / 3
"""The worth of a link as a share of the next one: an early part of the work must not be a reason to stop there."""
KEPT = 0.1
"""The worth, as a share of the last link, of a feature that is only to stay as good as it was at the start."""


@dataclass(frozen=True)
class Chain:
    """Directed features: links, first part of the work first, and features that are only to stay as they were."""

    links: tuple[View, ...]
    """Two or more; the last one waits for the others."""
    kept: tuple[View, ...]

    def describe(self) -> str:
        """The order, in words, with its numbers."""
        *first, last = self.links
        names = " and ".join(view.name for view in first)
        steps = [f"{view.name} (as good as it gets {shown(view.held)} steps before a success)" for view in first]
        return (
            f"{', then '.join([*steps, last.name])}: {last.name} is at its worst in {shown(last.waits)} of the states, "
            f"until {names} {'is' if len(first) == 1 else 'are'} near the best value"
        )


def find_chain(features: list[View]) -> Chain | None:
    """The chain whose last link reaches its best value latest before a success; None where the evidence has none."""
    reaching = [view for view in features if _reaches(view)]
    lasts = [view for view in reaching if view.until and view.held is not None and not _switch(view)]
    for last in sorted(lasts, key=lambda view: (view.held, view.name)):
        awaited = [view for view in reaching if view.name in last.until]
        earlier = [view for view in awaited if (view.held or 0.0) > (last.held or 0.0) and _travels(view, 1.0)]
        steps = _one_per_moment([view for view in earlier if not _starts_good(view) and not _switch(view)])
        if steps and _dense(steps[0]) and (steps[0].held or 0.0) >= LONG_BEFORE * max(last.held or 0.0, 1.0):
            kept = [view for view in awaited if _starts_good(view) and _travels(view, 0.5)]
            kept.sort(key=lambda view: -(view.room or 0.0) / view.unit)
            return Chain((*steps, last), tuple(kept))
    return None


def chained(chain: Chain, beta: float, agents: int | None) -> Iterator[Idea]:
    """Ideas of a chain, most promising first.

    ``beta`` is what its last link is worth, from its mean to a success; ``agents`` is the size of the team, None where
    that is unknown.
    """
    plain = Idea(
        tuple(_term(view, EARLIER**place) for place, view in enumerate(reversed(chain.links))),
        beta,
        f"One chain: {chain.describe()}. Each link is worth a third of the next, over the way from its mean to its "
        "value at a success, so that no part is a reason to stop there.",
        trust=0.7,
    )
    keeping = plain
    if chain.kept:
        view = chain.kept[0]
        keeping = replace(
            plain,
            terms=(*plain.terms, _term(view, KEPT)),
            rationale=f"{plain.rationale} {view.name} is good at the start and at a success, and worse in between "
            f"(mean {shown(view.mean)}): a small weight keeps it.",
        )
        yield keeping
    yield plain
    yield from filter(None, [_for_the_team(keeping, chain, agents)])
    yield replace(scaled(plain, 0.5), trust=0.6)


def _for_the_team(idea: Idea, chain: Chain, agents: int | None) -> Idea | None:
    """``idea`` with each agent feature as a mean that pays everybody; None where there is none, or no team."""
    views = (*reversed(chain.links), *chain.kept[:1])
    if agents is None or agents < 2 or not all(view.in_expressions for view in views):
        return None
    if all(view.scope == "team" for view in views):
        return None
    terms = tuple(
        term
        if view.scope == "team"
        else (term[0].replace(view.name, f"mean({view.name})", 1), round_to(agents * term[1]), "team")
        for term, view in zip(idea.terms, views, strict=True)
    )
    return replace(
        idea,
        terms=terms,
        rationale="The same chain, but every agent is paid for what any of them does: a mean over the agents, times "
        f"their number. {idea.rationale}",
    )


def _term(view: View, share: float) -> tuple[str, float, str]:
    return view.potential, round_to(view.sign * share / _way(view)), view.scope


def _gaps(view: View) -> tuple[float, float] | None:
    """Distance from the best value on average, and at a success (before or after it); None where unknown."""
    if view.room is None or view.good is None or view.around_success is None:
        return None
    return view.room, min(abs(value - view.good) for value in view.around_success)


def _reaches(view: View) -> bool:
    """Whether it is near its best value at a success, and not on average."""
    gaps = _gaps(view)
    return gaps is not None and gaps[0] > 0 and gaps[0] - gaps[1] >= REACHED * gaps[0]


def _way(view: View) -> float:
    """From its mean to its value at a success, or what a success undoes where that is more."""
    gaps = _gaps(view) or (view.unit, 0.0)
    before, after = view.around_success or (0.0, 0.0)
    return max(gaps[0] - gaps[1], abs(after - before))


def _travels(view: View, deviations: float) -> bool:
    """Whether its mean and its value at a success are at least so many deviations apart."""
    gaps = _gaps(view)
    return gaps is not None and gaps[0] - gaps[1] >= deviations * view.unit


def _switch(view: View) -> bool:
    """Whether it mostly waits, and then goes at once from its worst value to another."""
    return view.waits is not None and (view.then or 0.0) < SWITCH * _way(view)


def _dense(view: View) -> bool:
    """Whether it differs from its worst value in most states, so that agents feel it from anywhere."""
    off = None if view.mean is None or view.bad is None else abs(view.mean - view.bad)
    return view.waits is None and off is not None and off >= view.unit


def _starts_good(view: View) -> bool:
    """Whether episodes begin with it at its best value."""
    if view.start is None or view.good is None or view.room is None:
        return False
    return abs(view.start - view.good) <= STARTS_GOOD * view.room


def _one_per_moment(views: list[View]) -> list[View]:
    """The views, longest held first; of those that came to their values at one moment, the one that waits least."""
    chosen: list[View] = []
    for view in sorted(views, key=lambda view: (-(view.held or 0.0), view.waits or 0.0)):
        if not chosen or (view.held or 0.0) < SAME_MOMENT * (chosen[-1].held or 0.0):
            chosen.append(view)
        elif (view.waits or 0.0) < (chosen[-1].waits or 0.0):
            chosen[-1] = view
    return chosen

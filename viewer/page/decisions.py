"""The decisions of a session on its page: explained, drawn and played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from learning_signal.ledger.read.records import DecisionChain
from learning_signal.viewer.comparisons import is_trial
from learning_signal.viewer.page.drawing import FieldPart, field_parts
from learning_signal.viewer.page.markup import markup
from learning_signal.viewer.page.player import PlayerPart, player
from learning_signal.viewer.page.plots import arms_plot
from learning_signal.viewer.reports.explain import render_decision
from learning_signal.viewer.text import clean

FULL = "Its episodes are left out: with those of the earlier rounds, this page is full."


@dataclass(frozen=True)
class DecisionPart:
    """A decision on the page."""

    round: int
    title: str
    body: str
    plots: tuple[str, ...]
    links: tuple[tuple[str, int], ...]
    """What can be read in the transcript about it: its name, and the number of its event."""
    fields: tuple[FieldPart, ...]
    """The shapings of the round, the one in use before first, that are drawn over the task."""
    player: PlayerPart | None
    """The episodes before and after a promotion, where they are drawn."""
    note: str | None
    """Why a promotion has none, in one sentence."""
    packed: str | None = None
    """Body, plots and fields, packed; None where they stand in the page as they are."""


def decision_parts(chains: Sequence[DecisionChain], drawn: Mapping[str, Any]) -> list[DecisionPart]:
    """A part for each decision; ``drawn`` is as in ``viewer.page.report``."""
    parts = []
    for chain in chains:
        of_round = drawn["rounds"].get(chain.decision.round) or {"fields": {}, "episodes": None, "note": None}
        part = _explained(chain)
        parts.append(
            replace(
                part,
                fields=field_parts(drawn["start"], of_round["fields"], chain) if drawn["start"] else (),
                player=of_round["episodes"] and player(part.round, of_round["episodes"]),
                note=of_round["note"] and clean(of_round["note"]),
            )
        )
    return parts


def _explained(chain: DecisionChain) -> DecisionPart:
    """A decision without what is drawn of its shapings and episodes."""
    decision = chain.decision
    links = [("diagnosis", chain.diagnosis.event_seq)] if chain.diagnosis else []
    links += [(f"{each.purpose} {clean(each.id.rpartition('/')[2])}", each.event_seq) for each in chain.comparisons]
    links += [("verdict", each.event_seq) for each in chain.verdicts]
    links.append(("decision", decision.event_seq))
    trials = [each for each in chain.comparisons if is_trial(each) or each.purpose == "screen"]
    return DecisionPart(
        decision.round,
        clean(f"Round {decision.round}: {decision.action.replace('_', ' ')}"),
        Markup(markup(render_decision(chain))),  # noqa: S704 - markup escapes all it is given
        tuple(Markup(plot) for each in trials if (plot := arms_plot(each))),  # noqa: S704
        tuple(links),
        fields=(),
        player=None,
        note=None,
    )


def fitting(parts: Sequence[DecisionPart], room: int) -> list[DecisionPart]:
    """The parts with as many players as fit in so many characters, the earlier first; the others say so."""
    fitted = []
    for part in parts:
        taken = 0 if part.player is None else len(part.player.packed)
        if taken > room:
            part = replace(part, player=None, note=FULL)
        else:
            room -= taken
        fitted.append(part)
    return fitted

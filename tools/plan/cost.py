"""What a round costs in env steps, before it is begun: the rungs of its screen, and its confirmation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from learning_signal.ledger.wording import short
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.settings import SessionSettings


@dataclass(frozen=True)
class RoundCost:
    """Env steps of one round, all its branches on all their seeds."""

    first: int
    """Without a refinement: screen of all candidates and control, and one confirmation."""
    refinement: int
    """Each refinement on top: its screen has the control already, its confirmation is on fresh seeds."""
    refinements: int
    """How many there can be."""

    @property
    def most(self) -> int:
        """With every refinement."""
        return self.first + self.refinements * self.refinement

    def describe(self, stage_steps: int) -> str:
        """The cost in words, beside that of a stage."""
        more = f" ({short(self.most)} with every refinement)" if self.refinements else ""
        stages = self.first / stage_steps
        return f"a round costs {short(self.first)} env steps{more}, as much as {stages:.3g} stages"


def round_cost(settings: SessionSettings, task: TaskSpec) -> RoundCost:
    """The cost of a round under ``settings``; a single candidate is confirmed without a screen."""
    gate, talk = settings.gate, settings.deliberation
    control, candidates = screen_env_steps(settings, task)
    runs = gate.judge.runs(gate, screened=candidates > 0)
    confirmation = runs * round_up(settings.run, settings.branch_steps, task)
    return RoundCost(
        first=control + candidates + confirmation, refinement=candidates + confirmation, refinements=talk.refinements
    )


def rung_lengths(settings: SessionSettings, task: TaskSpec | None = None) -> tuple[int, ...]:
    """Env steps from the start of a screening branch to the end of each rung, in whole rollouts.

    A rung continues the branches of the one before it, so nothing is trained twice. One rung where nothing is halved.
    """
    whole = settings.branch_steps * settings.gate.screen_fraction
    halvings = settings.gate.screen_halvings
    return tuple(round_up(settings.run, int(whole / 2 ** (halvings - rung)), task) for rung in range(halvings + 1))


def rung_sizes(candidates: int, halvings: int) -> tuple[int, ...]:
    """Candidates in each rung that is run: the better half, rounded up, goes on; a single one needs no further rung."""
    sizes = [candidates]
    while len(sizes) <= halvings and math.ceil(sizes[-1] / 2) > 1:
        sizes.append(math.ceil(sizes[-1] / 2))
    return tuple(sizes)


def screen_env_steps(settings: SessionSettings, task: TaskSpec | None = None) -> tuple[int, int]:
    """Env steps of the control and of all candidates in a screen, on all seeds; 0 where one candidate needs none."""
    gate, candidates = settings.gate, settings.deliberation.candidates
    if candidates == 1:
        return 0, 0
    lengths, sizes = rung_lengths(settings, task), rung_sizes(candidates, gate.screen_halvings)
    pieces = [length - before for length, before in zip(lengths, (0, *lengths), strict=False)]
    trained = sum(size * piece for size, piece in zip(sizes, pieces, strict=False))
    return gate.screen_seeds * lengths[len(sizes) - 1], gate.screen_seeds * trained

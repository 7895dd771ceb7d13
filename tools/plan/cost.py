"""The cost of a round in env steps of training and of evaluation, before it begins: its screen and confirmation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from learning_signal.ledger.wording import short
from learning_signal.marl.segments.late import LATE
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.evaluation import branch_episodes, evaluation_env_steps, late_env_steps
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
    undecided: int
    """Without a refinement, what is expected where the candidates are no better than the control, but confirmed."""
    further: int
    """What a close screen may add, in each refinement, where it is given all its further seeds."""

    @property
    def most(self) -> int:
        """With every refinement."""
        return self.first + self.refinements * self.refinement

    @property
    def limit(self) -> int:
        """With every refinement, and every further seed of every screen: more is not possible."""
        return self.most + (1 + self.refinements) * self.further

    def describe(self, stage_steps: int, evaluation: RoundCost) -> str:
        """The cost in words, beside that of a stage; ``evaluation`` is what is played besides."""
        more = f" ({short(self.most)} with every refinement)" if self.refinements else ""
        stages = self.first / stage_steps
        often = f"; about {short(self.undecided)} where nothing differs" if self.undecided < self.first else ""
        often += f"; a close screen may add {short(self.further)}" if self.further else ""
        return (
            f"a round costs at most {short(self.first)} env steps of training{more}, as much as {stages:.3g} stages, "
            f"and {short(evaluation.first)} of evaluation{often}"
        )


def round_cost(settings: SessionSettings, task: TaskSpec) -> RoundCost:
    """The cost of a round under ``settings``; a single candidate is confirmed without a screen."""
    return _cost(settings, task, lambda piece: piece, round_up(settings.run, settings.branch_steps, task))


def round_evaluation(settings: SessionSettings, task: TaskSpec) -> RoundCost:
    """The env steps that the evaluations of a round play beside those of its cost, at most: what the gate compares, and
    what is played of the branch that HEAD moves to.
    """
    run, branch_steps = settings.run, round_up(settings.run, settings.branch_steps, task)
    held_out = branch_episodes(run, branch_steps, task)
    branch = evaluation_env_steps(run, "confirm", branch_steps, task, held_out)
    cost = _cost(settings, task, lambda piece: evaluation_env_steps(run, "screen", piece, task, held_out), branch)
    moved = len(LATE) * late_env_steps(run, task)
    return replace(cost, first=cost.first + moved, undecided=cost.undecided + moved)


def looks_at_branches(settings: SessionSettings, task: TaskSpec) -> int:
    """The env steps that are played besides where agents look at every branch of a round, at most."""
    played = late_env_steps(settings.run, task)
    return _cost(settings, task, lambda piece: played, played).limit


def _cost(settings: SessionSettings, task: TaskSpec, screened: Callable[[int], int], confirmed: int) -> RoundCost:
    """A round, from the cost of a piece of a screening branch by its env steps, and that of a confirmation branch."""
    gate = settings.gate
    control, candidates = screen_env_steps(settings, task, screened)
    runs = gate.judge.runs(gate, screened=candidates > 0)
    expected = gate.judge.expected_runs(gate, settings.confirmations, screened=candidates > 0)
    return RoundCost(
        first=control + candidates + runs * confirmed,
        refinement=candidates + runs * confirmed,
        refinements=settings.deliberation.refinements,
        undecided=control + candidates + round(expected * confirmed),
        further=further_screen_seeds(settings) * (control + candidates) // gate.screen_seeds,
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


def further_screen_seeds(settings: SessionSettings) -> int:
    """The seeds that the Validator may add to a screen."""
    gate = settings.gate
    allowed = gate.judge.sequential and not gate.screen_halvings and settings.deliberation.choice
    return gate.screen_further if allowed else 0


def screen_env_steps(
    settings: SessionSettings, task: TaskSpec | None = None, cost: Callable[[int], int] = lambda piece: piece
) -> tuple[int, int]:
    """Env steps of the control and of all candidates in a screen, on all seeds; 0 where one candidate needs none.

    ``cost`` is what is counted of a piece of a branch, by its env steps: these themselves, or what is played in it.
    """
    gate, candidates = settings.gate, settings.deliberation.candidates
    if candidates == 1:
        return 0, 0
    lengths, sizes = rung_lengths(settings, task), rung_sizes(candidates, gate.screen_halvings)
    pieces = [cost(length - before) for length, before in zip(lengths, (0, *lengths), strict=False)][: len(sizes)]
    of_candidates = sum(size * piece for size, piece in zip(sizes, pieces, strict=True))
    return gate.screen_seeds * sum(pieces), gate.screen_seeds * of_candidates

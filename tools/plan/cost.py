"""The cost of a round in env steps of training and of evaluation, before it begins: its screen and confirmation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from learning_signal.ledger.wording import short
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.evaluation import evaluation_env_steps
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
    gate, talk = settings.gate, settings.deliberation
    control, candidates = screen_env_steps(settings, task)
    further = further_screen_seeds(settings) * (control + candidates) // settings.gate.screen_seeds
    runs = gate.judge.runs(gate, screened=candidates > 0)
    expected = gate.judge.expected_runs(gate, settings.confirmations, screened=candidates > 0)
    branch_steps = round_up(settings.run, settings.branch_steps, task)
    return RoundCost(
        first=control + candidates + runs * branch_steps,
        refinement=candidates + runs * branch_steps,
        refinements=talk.refinements,
        undecided=control + candidates + round(expected * branch_steps),
        further=further,
    )


def round_evaluation(settings: SessionSettings, task: TaskSpec) -> RoundCost:
    """The env steps that the evaluations of a round play beside those of its cost, at most."""
    gate, candidates, run = settings.gate, settings.deliberation.candidates, settings.run
    leads = gate.judge.confirms_on == "screen"
    control = screened = 0
    if candidates > 1:
        lengths, sizes = rung_lengths(settings, task), rung_sizes(candidates, gate.screen_halvings)
        pieces = [length - before for length, before in zip(lengths, (0, *lengths), strict=False)]
        played = [evaluation_env_steps(run, "screen", piece, task, leads=leads) for piece in pieces]
        control = gate.screen_seeds * sum(played[: len(sizes)])
        screened = gate.screen_seeds * sum(size * each for size, each in zip(sizes, played, strict=False))
    branch = evaluation_env_steps(run, "confirm", round_up(run, settings.branch_steps, task), task, leads=not leads)
    runs = gate.judge.runs(gate, screened=screened > 0)
    expected = gate.judge.expected_runs(gate, settings.confirmations, screened=screened > 0)
    return RoundCost(
        first=control + screened + runs * branch,
        refinement=screened + runs * branch,
        refinements=settings.deliberation.refinements,
        undecided=control + screened + round(expected * branch),
        further=further_screen_seeds(settings) * (control + screened) // gate.screen_seeds,
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


def screen_env_steps(settings: SessionSettings, task: TaskSpec | None = None) -> tuple[int, int]:
    """Env steps of the control and of all candidates in a screen, on all seeds; 0 where one candidate needs none."""
    gate, candidates = settings.gate, settings.deliberation.candidates
    if candidates == 1:
        return 0, 0
    lengths, sizes = rung_lengths(settings, task), rung_sizes(candidates, gate.screen_halvings)
    pieces = [length - before for length, before in zip(lengths, (0, *lengths), strict=False)]
    trained = sum(size * piece for size, piece in zip(sizes, pieces, strict=False))
    return gate.screen_seeds * lengths[len(sizes) - 1], gate.screen_seeds * trained

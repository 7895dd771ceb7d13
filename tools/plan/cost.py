"""What a round costs in env steps, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.budget import short
from learning_signal.tools.plan.rungs import screen_env_steps
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

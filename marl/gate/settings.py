"""The parameters of the gate, each with its meaning; part of a session's configuration."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AliasChoices, Field, model_validator

from learning_signal.marl.gate.judges import Judge, Mode, judge_of
from learning_signal.marl.gate.statistics import MOST_PAIRS
from learning_signal.marl.settings import Count, Fraction, Frozen

Level = Annotated[float, Field(gt=0, lt=0.5)]


class GateSettings(Frozen):
    """The thresholds of screening, confirmation and probation; part of the run configuration."""

    mode: Annotated[Mode, Field(validation_alias=AliasChoices("mode", "rule"))] = "paired"
    """How a confirmation is judged. ``paired``: by the exact test; the gate of a session. Controls of a study alone:
    ``single run``, the usual practice (the best of single runs goes on if it beats the control by a margin), and
    ``always``, the gate off (what the screen chose passes). Both without probation.
    """
    alpha: Level = 0.05
    """Significance level of every one-sided test, of confirmations and of probation; intervals are at 1 - 2 alpha."""
    family_alpha: Level | None = None
    """Upper bound of the probability of any false promotion in a session, shared equally by its confirmations."""
    screen_seeds: Count = 2
    """Paired seeds of each candidate (and the control) in screening."""
    screen_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Length of a screening branch as a fraction of a confirmation branch."""
    screen_halvings: Annotated[int, Field(ge=0, le=3)] = 0
    """Times the screen drops the worse half of its candidates; a rung is half as long as the one after it."""
    confirm_seeds: Annotated[int, Field(ge=1, le=MOST_PAIRS)] = 5
    """Fresh paired seeds of the confirmation."""
    delta: Fraction = 0.002
    """Sparse return a change must be better by, as a fraction of the task's ``max_return``."""
    delta_progress: Fraction = 0.005
    """Progress (in [0, 1]) a change must be better by, below the floor."""
    floor: Fraction = 0.02
    """Competence floor: mean sparse return, as a fraction of ``max_return``, under which progress is
    judged.
    """
    single_run_margin: Fraction = 0.03
    """Sparse return, as a fraction of ``max_return``, by which a single run must be better under ``single run``."""
    probation_resamples: Count = 9999
    """Sign flips drawn for probation's test over episodes; exact where all ``2**n`` are no more."""

    def shared_alpha(self, confirmations: int) -> float:
        """The level of each confirmation in a session that can make so many.

        ``family_alpha / confirmations`` (Bonferroni), or ``alpha`` where that is smaller: confirmations rest on fresh
        seeds, so each one's error is at most its level whatever happened before, and their sum bounds that of any.
        """
        return self.alpha if self.family_alpha is None else min(self.alpha, self.family_alpha / confirmations)

    @property
    def judge(self) -> Judge:
        """Who judges confirmations under these settings."""
        return judge_of(self.mode)

    def refuse_unreachable(self, confirmations: int) -> None:
        """``ValueError`` where the judge of ``mode`` can never pass anything in any of so many confirmations."""
        self.judge.refuse(self, confirmations)

    @model_validator(mode="after")
    def _pairs_can_reach_alpha(self) -> GateSettings:
        self.refuse_unreachable(confirmations=1)
        if 1 / (self.probation_resamples + 1) > self.alpha:
            raise ValueError(
                f"probation_resamples is {self.probation_resamples}, but the smallest p of so many can never reach "
                f"alpha {self.alpha:g}: use at least {math.ceil(1 / self.alpha) - 1} probation_resamples"
            )
        return self

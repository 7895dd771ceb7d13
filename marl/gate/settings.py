"""The parameters of the gate, each with its meaning; part of a session's configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from learning_signal.marl.gate.judge import Judge, Mode
from learning_signal.marl.gate.judges import judge_of
from learning_signal.marl.gate.sequential import MOST_LOOKS
from learning_signal.marl.gate.statistics import MOST_PAIRS
from learning_signal.marl.settings import Fraction, Frozen

Level = Annotated[float, Field(gt=0, lt=0.5)]
LATER = 2
"""Times the smallest p of a trial that each later confirmation of a session keeps of the level."""
SEQUENTIAL_DEFAULTS = {"family_alpha": 0.05, "screen_seeds": 1}


class GateSettings(Frozen):
    """The thresholds of screening, confirmation and probation; part of the run configuration."""

    mode: Annotated[Mode, Field(validation_alias=AliasChoices("mode", "rule"))] = "sequential"
    """How a confirmation is judged. ``sequential``: branch by branch, by an exact test of ranks; the gate of a session.
    ``paired``: by an exact test of ``confirm_seeds`` pairs; the gate of version 0.1. Controls of a study alone:
    ``single run``, the usual practice (the best of single runs goes on if it beats the control by a margin), and
    ``always``, the gate off (what the screen chose passes). Both without probation.
    """
    alpha: Level = 0.05
    """Significance level of every one-sided test, of confirmations and of probation; intervals are at 1 - 2 alpha."""
    family_alpha: Level | None = None
    """Upper bound of the probability of any false promotion in a session, shared by its confirmations; None: no bound.
    Where it is not given: 0.05 with ``sequential``, none with the others.
    """
    shares: Literal["halves", "equal"] = "halves"
    """How confirmations share ``family_alpha`` with ``sequential``: half of what is left for each, or equal shares."""
    screen_seeds: Annotated[int, Field(ge=1, le=100)] = 2
    """Paired seeds of each candidate (and the control) in screening. Where it is not given: 1 with ``sequential``."""
    screen_further: Annotated[int, Field(ge=0, le=8)] = 2
    """Most further seeds the Validator may add to a close screen; with ``sequential`` alone, and without halvings."""
    screen_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Length of a screening branch as a fraction of a confirmation branch."""
    screen_halvings: Annotated[int, Field(ge=0, le=3)] = 0
    """Times the screen drops the worse half of its candidates; a rung is half as long as the one after it."""
    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)] = 6
    """Most branches of each arm of a ``sequential`` confirmation; it ends as soon as it is decided."""
    confirm_seeds: Annotated[int, Field(ge=1, le=MOST_PAIRS)] = 5
    """Fresh paired seeds of a ``paired`` confirmation."""
    delta: Fraction = 0.002
    """Sparse return a change must be better by, as a fraction of the task's ``max_return``."""
    delta_progress: Fraction = 0.005
    """Progress (in [0, 1]) a change must be better by, below the floor."""
    floor: Fraction = 0.02
    """Competence floor: mean sparse return, as a fraction of ``max_return``, under which progress is judged: in
    probation, and in a ``paired`` confirmation, where it is the mean of the better of each pair.
    """
    single_run_margin: Fraction = 0.03
    """Sparse return, as a fraction of ``max_return``, by which a single run must be better under ``single run``."""
    probation_resamples: Annotated[int, Field(ge=1, le=10_000_000)] = 9999
    """Sign flips drawn for probation's test over episodes; exact where all ``2**n`` are no more."""

    def shared_alpha(self, confirmations: int) -> float:
        """The level of each confirmation in a session that can make so many.

        ``family_alpha / confirmations`` (Bonferroni), or ``alpha`` where that is smaller: confirmations rest on fresh
        seeds, so each one's error is at most its level whatever happened before, and their sum bounds that of any.
        """
        return self.alpha if self.family_alpha is None else min(self.alpha, self.family_alpha / confirmations)

    def level(self, spent: float, left: int) -> float:
        """The level of the next of ``left`` confirmations a session can still make.

        By halves it is half of what is left, so that a good first proposal needs few branches; but every later
        confirmation keeps twice the smallest p that its looks can give, none gets less than an equal share, and the
        last gets all.

        ``spent`` is the sum of the sizes of those that promoted nothing. A promotion hands its level on (the fallback
        procedure: Wiens 2003): the sum of the levels at which true null hypotheses are tested stays within
        ``family_alpha``, and so does the probability of promoting any of them.
        """
        if self.family_alpha is None:
            return self.alpha
        available = max(self.family_alpha - spent, 0.0)
        kept = (left - 1) * LATER / math.comb(2 * self.looks, self.looks)
        half = min(available / 2, available - kept) if self.shares == "halves" else 0.0
        return min(self.alpha, max(available / left, half))

    @property
    def judge(self) -> Judge:
        """Who judges confirmations under these settings."""
        return judge_of(self.mode)

    def refuse_unreachable(self, confirmations: int) -> None:
        """``ValueError`` where the judge of ``mode`` can never pass anything in any of so many confirmations."""
        self.judge.refuse(self, confirmations)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_mode(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        mode = given.get("mode", given.get("rule", cls.model_fields["mode"].default))
        return {**SEQUENTIAL_DEFAULTS, **given} if mode == "sequential" else given

    @model_validator(mode="after")
    def _pairs_are_of_paired(self) -> GateSettings:
        usual = GateSettings.model_fields["confirm_seeds"].default
        if self.judge.sequential and self.confirm_seeds != usual:
            raise ValueError(
                f"found confirm_seeds {self.confirm_seeds} with mode 'sequential', which adds branches until it is "
                "decided: set looks, the most branches of each arm, or mode 'paired'"
            )
        return self

    @model_validator(mode="after")
    def _pairs_can_reach_alpha(self) -> GateSettings:
        self.refuse_unreachable(confirmations=1)
        if 1 / (self.probation_resamples + 1) > self.alpha:
            raise ValueError(
                f"probation_resamples is {self.probation_resamples}, but the smallest p of so many can never reach "
                f"alpha {self.alpha:g}: use at least {math.ceil(1 / self.alpha) - 1} probation_resamples"
            )
        return self

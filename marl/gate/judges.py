"""Who judges a confirmation: the exact test of a session, or a control of studies that tests nothing.

The modes differ in a few answers, and a `Judge` gives all of them: everything else asks the judge of its gate settings
(``GateSettings.judge``) and never compares the mode itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, get_args

from learning_signal.marl.gate.judge import MOST, Judge, Mode, Numbers, Outcome, Purpose
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.gate.statistics import MOST_PAIRS


class Sequential:
    """The gate of a session: fresh branches of both arms until their ranks decide (``marl.gate.trial``)."""

    mode: Mode = "sequential"
    tests = holds_probation = ranks_progress = sequential = True
    confirms_on: Purpose = "confirm"
    settings: Mapping[str, Any] = {}

    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """Both arms at every look."""
        return 2 * gate.looks

    def expected_runs(self, gate: Numbers, confirmations: int, *, screened: bool) -> float:
        """A trial ends as soon as it is decided."""
        return design(gate.level(0.0, confirmations), gate.looks).branches

    def refuse(self, gate: Numbers, confirmations: int) -> None:
        """``ValueError`` where so few looks can never reach the level that each of so many confirmations has."""
        if gate.family_alpha is not None and confirmations > (most := self.most_confirmations(gate)):
            raise ValueError(
                f"found {confirmations} confirmations that a session could make, but {gate.looks} looks reach only "
                f"the shares of {most} in family_alpha {gate.family_alpha:g}: use fewer rounds or refinements, more "
                "looks or a larger family_alpha"
            )
        design(gate.level(0.0, confirmations), gate.looks)

    def most_confirmations(self, gate: Numbers) -> int:
        """How many confirmations can share ``family_alpha`` so that each can still pass."""
        smallest = 1 / math.comb(2 * gate.looks, gate.looks)
        return MOST if gate.family_alpha is None else int(gate.family_alpha / smallest * (1 + 1e-12))

    def smallest_p(self, gate: Numbers, level: float, n: int) -> tuple[float, float] | None:
        """At look ``n``, and at whichever look a trial can end with the smallest: the first that can pass."""
        smallest = design(level, gate.looks).smallest_p
        return smallest[n - 1], min(smallest)

    def interval_level(self, gate: Numbers, level: float) -> float | None:
        """Of the repeated interval: each of its bounds misses with at most ``miss`` of the design."""
        return 1 - 2 * design(level, gate.looks).miss

    def describe(self, gate: Numbers, env_steps: int, max_return: float, confirmations: int, progress: bool) -> str:
        """The trial, its thresholds and what orders branches."""
        level = gate.level(0.0, confirmations)
        plan = design(level, gate.looks)
        family = (
            f"level {level:.3g} each"
            if gate.family_alpha is None
            else f"{gate.family_alpha:g} for all {confirmations} confirmations the session can make, the first at "
            f"{level:.3g}; a promotion hands its level on"
        )
        order = (
            "sparse return first, as finely as it can be measured, then progress; progress alone while hardly any "
            "episode of the screen succeeds"
            if progress
            else "sparse return"
        )
        return " ".join(
            [
                f"branches of {env_steps:,} env steps on fresh seeds and episodes, one of each arm at a time, at most",
                f"{gate.looks} of each ({plan.branches:.1f} in all are expected where nothing differs), ranked",
                f"by {order}. Pass: the candidate wins enough pairs of branches for an exact test at its level",
                f"({family}), and the mean difference exceeds delta ({gate.delta * max_return:g} of sparse return,",
                f"{gate.delta_progress:g} of progress). It ends without a pass once the candidate wins no more than",
                "two thirds of the pairs: fail where the difference is at most delta, inconclusive otherwise. Tested",
                "is that branches of both arms are exchangeable: a candidate that usually helps a little and collapses",
                "in one of twenty seeds may pass, and probation is what catches it.",
            ]
        )


class Paired:
    """The gate of version 0.1: fresh paired seeds and the exact permutation test (``marl.gate.confirmation``)."""

    mode: Mode = "paired"
    tests = holds_probation = ranks_progress = True
    sequential = False
    confirms_on: Purpose = "confirm"
    settings: Mapping[str, Any] = {"mode": "paired", "screen_seeds": 2, "confirm_seeds": 5, "family_alpha": None}

    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """Both arms on every seed."""
        return 2 * gate.confirm_seeds

    def expected_runs(self, gate: Numbers, confirmations: int, *, screened: bool) -> float:
        """All of them, whatever they show."""
        return self.runs(gate, screened=screened)

    def refuse(self, gate: Numbers, confirmations: int) -> None:
        """``ValueError`` where so few pairs can never reach the level that each of so many confirmations has."""
        level, smallest = gate.shared_alpha(confirmations), 2.0**-gate.confirm_seeds
        if smallest <= level:
            return
        needed = math.ceil(-math.log2(level))
        target, name = f"alpha {level:g}", "alpha"
        if gate.family_alpha is not None and level < gate.alpha:
            name = "family_alpha"
            target = f"{level:.3g}, the share of {confirmations} confirmations in family_alpha {gate.family_alpha:g}"
        if needed > MOST_PAIRS:
            advice = f"the exact test takes at most {MOST_PAIRS}: use a larger {name} or fewer confirmations"
        else:
            advice = f"use at least {needed} confirm_seeds or a larger {name}"
        raise ValueError(
            f"confirm_seeds is {gate.confirm_seeds}, but the smallest p of so many pairs is {smallest:.3g} and can "
            f"never reach {target}: {advice}"
        )

    def most_confirmations(self, gate: Numbers) -> int:
        """How many confirmations can share ``family_alpha`` so that each can still pass."""
        return MOST if gate.family_alpha is None else int(gate.family_alpha * 2**gate.confirm_seeds * (1 + 1e-12))

    def smallest_p(self, gate: Numbers, level: float, n: int) -> tuple[float, float] | None:
        """Of ``n`` pairs that all favour the candidate; no other number is made."""
        return 2.0**-n, 2.0**-n

    def interval_level(self, gate: Numbers, level: float) -> float | None:
        """Of Student's interval."""
        return 1 - 2 * level

    def describe(self, gate: Numbers, env_steps: int, max_return: float, confirmations: int, progress: bool) -> str:
        """The test, its thresholds and what is judged below the floor."""
        family = (
            ""
            if gate.family_alpha is None
            else f" (all {confirmations} confirmations of the session share {gate.family_alpha:g})"
        )
        below = (
            "progress is judged instead."
            if progress
            else "the task declares no progress to judge instead, and every verdict is inconclusive."
        )
        return " ".join(
            [
                _fresh(gate, env_steps),
                f"Pass: the mean paired difference exceeds delta ({gate.delta * max_return:g} of sparse return,",
                f"{gate.delta_progress:g} of progress) and the exact one-sided permutation test has",
                f"p <= {gate.shared_alpha(confirmations):.3g}{family}.",
                "Fail: the interval of the difference lies at or below delta. Otherwise inconclusive.",
                "While the mean sparse return of the better of each pair is below the floor",
                f"({gate.floor * max_return:g}), {below}",
            ]
        )


class Control(ABC):
    """A control of studies: nothing is tested, nothing is held on probation, and sparse return alone counts."""

    mode: Mode
    tests = holds_probation = sequential = False
    settings: Mapping[str, Any]

    def refuse(self, gate: Numbers, confirmations: int) -> None:
        """``ValueError`` for a level of tests that are not made."""
        if gate.family_alpha is not None:
            raise ValueError(
                f"found family_alpha with mode {self.mode!r}, under which nothing is tested: leave family_alpha out"
            )

    def smallest_p(self, gate: Numbers, level: float, n: int) -> tuple[float, float] | None:
        """None: there is no test."""
        return None

    def interval_level(self, gate: Numbers, level: float) -> float | None:
        """None: there is no interval."""
        return None

    @abstractmethod
    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """Most full-length runs that a confirmation trains in both arms."""

    def expected_runs(self, gate: Numbers, confirmations: int, *, screened: bool) -> float:
        """All of them, whatever they show."""
        return self.runs(gate, screened=screened)

    def most_confirmations(self, gate: Numbers) -> int:
        """Any number: nothing is tested."""
        return MOST

    @abstractmethod
    def threshold(self, gate: Numbers, max_return: float) -> float:
        """Sparse return that is recorded as what the mean difference had to exceed."""

    @abstractmethod
    def ruling(self, measured: str, mean: float | None, threshold: float) -> tuple[Outcome, str]:
        """The outcome and its reason, from the mean difference of sparse return (None: the control failed)."""


class SingleRun(Control):
    """The usual practice: one run per arm; the best goes on if it beats the control by a margin.

    The run that was best by luck is judged by the same luck: on the seed and the episodes it was chosen by.
    """

    mode: Mode = "single run"
    confirms_on: Purpose = "screen"
    ranks_progress = False
    settings: Mapping[str, Any] = {
        "mode": "single run",
        "screen_seeds": 1,
        "confirm_seeds": 1,
        "screen_fraction": 1.0,
        "screen_halvings": 0,
        "family_alpha": None,
    }

    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """None after a screen: the run that was screened is the one that is judged."""
        return 0 if screened else 2 * gate.confirm_seeds

    def refuse(self, gate: Numbers, confirmations: int) -> None:
        """``ValueError`` for more than one run per arm, or a shorter one."""
        super().refuse(gate, confirmations)
        if (gate.screen_seeds, gate.confirm_seeds, gate.screen_fraction, gate.screen_halvings) != (1, 1, 1, 0):
            raise ValueError(
                "mode 'single run' compares one run per arm at full length, and screens and confirms by the same run: "
                "use screen_seeds 1, confirm_seeds 1, screen_fraction 1 and screen_halvings 0"
            )

    def describe(self, gate: Numbers, env_steps: int, max_return: float, confirmations: int, progress: bool) -> str:
        """The run and the margin."""
        return (
            "the run that was screened. Pass: its sparse return beats the control's by more than "
            f"{self.threshold(gate, max_return):g}. Nothing is tested."
        )

    def threshold(self, gate: Numbers, max_return: float) -> float:
        """The margin."""
        return gate.single_run_margin * max_return

    def ruling(self, measured: str, mean: float | None, threshold: float) -> tuple[Outcome, str]:
        """Pass above the margin, fail otherwise."""
        if mean is None:
            return "inconclusive", f"inconclusive: {measured}"
        outcome: Outcome = "pass" if mean > threshold else "fail"
        return outcome, f"{outcome} by a single run against a margin of {threshold:.4g}, which is no test: {measured}"


class Always(Control):
    """The gate off: the candidate that the screen chose passes unless its training failed."""

    mode: Mode = "always"
    confirms_on: Purpose = "confirm"
    ranks_progress = True
    # One pair: nothing is computed from more, and one branch shows where HEAD goes on.
    settings: Mapping[str, Any] = {"mode": "always", "confirm_seeds": 1, "family_alpha": None}

    def runs(self, gate: Numbers, *, screened: bool) -> int:
        """Both arms on every seed."""
        return 2 * gate.confirm_seeds

    def describe(self, gate: Numbers, env_steps: int, max_return: float, confirmations: int, progress: bool) -> str:
        """That the gate is off."""
        off = "The gate is off: whatever is measured, a candidate passes whose training did not fail."
        return f"{_fresh(gate, env_steps)} {off}"

    def threshold(self, gate: Numbers, max_return: float) -> float:
        """The paired gate's delta, for comparison."""
        return gate.delta * max_return

    def ruling(self, measured: str, mean: float | None, threshold: float) -> tuple[Outcome, str]:
        """Always a pass."""
        return "pass", f"pass with the gate off, whatever was measured: {measured}"


SEQUENTIAL, PAIRED, SINGLE_RUN, ALWAYS = Sequential(), Paired(), SingleRun(), Always()
_JUDGES: Mapping[Mode, Judge] = {"sequential": SEQUENTIAL, "paired": PAIRED, "single run": SINGLE_RUN, "always": ALWAYS}


def judge_of(mode: Mode) -> Judge:
    """The judge that stored settings call ``mode``."""
    return _JUDGES[mode]


def known_mode(mode: object) -> Mode | None:
    """``mode`` where there is a judge of this name, None otherwise."""
    return next((name for name in get_args(Mode) if name == mode), None)


def _fresh(gate: Numbers, env_steps: int) -> str:
    return f"{gate.confirm_seeds} fresh paired seeds of {env_steps:,} env steps."

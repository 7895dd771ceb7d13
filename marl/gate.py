"""The gate: the statistics that decide whether a shaping change may be promoted, and whether it has held
since.

Two steps. *Screening* ranks candidates on a few seeds and chooses one; *confirmation* compares that one
with the control on fresh paired seeds. Where every arm is below the competence floor, sparse returns cannot
tell arms apart and the task's declared progress is judged instead. Everything here is a pure function of
the numbers given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, model_validator

from marl.settings import Count, Fraction, Frozen
from marl.stage import StageLabel, stage_label
from marl.statistics import MOST_PAIRS, checked, interval, paired_permutation_p, sign_flip_p

__all__ = [
    "GateSettings", "Measure", "ProbationVerdict", "ScreenArm", "ScreenResult", "StageLabel", "Verdict",
    "interval", "judge", "later_half_mean", "paired_permutation_p", "probation", "rank_screen", "stage_label",
]  # fmt: skip

MeasureName = Literal["sparse return", "progress"]
Values = Sequence[float | None]

_RESAMPLES = 9999


class GateSettings(Frozen):
    """The thresholds of screening, confirmation and probation; part of the run configuration."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Significance level of every one-sided test."""
    screen_seeds: Count = 2
    """Paired seeds of each candidate (and the control) in screening."""
    screen_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Length of a screening branch as a fraction of the horizon."""
    confirm_seeds: Annotated[int, Field(ge=2, le=MOST_PAIRS)] = 5
    """Fresh paired seeds of the confirmation."""
    delta: Fraction = 0.002
    """Sparse return a change must be better by, as a fraction of the task's ``max_return``."""
    delta_progress: Fraction = 0.005
    """Progress (in [0, 1]) a change must be better by, below the floor."""
    floor: Fraction = 0.02
    """Competence floor: mean sparse return, as a fraction of ``max_return``, under which progress is
    judged.
    """

    @model_validator(mode="after")
    def _pairs_can_reach_alpha(self) -> GateSettings:
        if 2.0**-self.confirm_seeds > self.alpha:
            needed = math.ceil(-math.log2(self.alpha))
            raise ValueError(
                f"confirm_seeds is {self.confirm_seeds}, but the smallest p of so many pairs is "
                f"{2.0**-self.confirm_seeds:.3g} and can never reach alpha {self.alpha:g}: "
                f"use at least {needed} confirm_seeds or a larger alpha"
            )
        return self


class Measure(Frozen):
    """What one branch scored: its means over the later half of its evaluations on one set of episodes."""

    sparse_return: float | None
    """Mean sparse return, or ``None`` where the branch failed."""
    progress: float | None
    """Mean progress, or ``None`` where the task declares none or the branch failed."""


class Evaluated(Protocol):
    """The part of an evaluation that is measured here."""

    env_steps: int
    sparse_returns: Sequence[float]
    progress: Sequence[float] | None


class ScreenArm(Frozen):
    """One candidate of a screening."""

    name: str
    differences: tuple[float, ...] | None
    """Candidate minus control, one per seed, in the measure of the screening; ``None`` for an excluded
    arm.
    """
    mean_difference: float | None
    failure: str | None
    """Why this arm was not compared, or ``None``."""


class ScreenResult(Frozen):
    """Candidates from best to worst, then those that could not be compared."""

    measure: MeasureName
    arms: tuple[ScreenArm, ...]
    chosen: str | None
    """The best candidate, or ``None`` where nothing could be compared."""
    reason: str


class Verdict(Frozen):
    """The outcome of a confirmation and every number it rests on. ``None`` marks what could not be
    computed.
    """

    outcome: Literal["pass", "fail", "inconclusive"]
    rule: MeasureName
    """The measure that was judged; ``differences`` to ``delta`` are in its units."""
    below_floor: bool | None
    n: int
    """Number of pairs."""
    differences: tuple[float, ...] | None
    """Candidate minus control, one per paired seed."""
    mean_difference: float | None
    interval: tuple[float, float] | None
    """Student-t interval of the mean difference at level ``1 - 2 alpha``."""
    p: float | None
    """Exact one-sided paired permutation p of "candidate better than control"."""
    sparse_p_worse: float | None
    """Exact one-sided p of "candidate's sparse return worse than the control's"."""
    delta: float
    alpha: float
    reason: str
    settings: GateSettings


class ProbationVerdict(Frozen):
    """Whether the main run still does what it did before a promotion, on the same held-out episodes."""

    outcome: Literal["held", "regressed"]
    rule: MeasureName
    n: int
    """Number of episodes."""
    mean_before: float
    mean_after: float | None
    mean_drop: float | None
    """Mean of before minus after; negative where it improved."""
    p: float | None
    """One-sided paired permutation p of "after is lower than before"."""
    delta: float
    alpha: float
    reason: str


def later_half_mean(evaluations: Sequence[Evaluated]) -> Measure:
    """The measure of a branch: means over the later half (rounded up) of its evaluations on one set of
    episodes.

    A value that is not finite gives ``None``: a failed branch, not a low one. No evaluation raises
    ``ValueError``.
    """
    if not evaluations:
        raise ValueError(
            "no evaluation was given, but a measure needs at least one: evaluate the segment first"
        )
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.env_steps)
    later = ordered[len(ordered) // 2 :]
    progress = [evaluation.progress for evaluation in later]
    return Measure(
        sparse_return=_mean_of_means([evaluation.sparse_returns for evaluation in later]),
        progress=None if any(values is None for values in progress) else _mean_of_means(progress),
    )


def rank_screen(
    control: Sequence[Measure],
    candidates: Mapping[str, Sequence[Measure]],
    max_return: float,
    settings: GateSettings,
) -> ScreenResult:
    """Rank candidates by their mean paired difference to the control, seed by seed in the same order.

    Sparse return is compared, or progress where every arm that did not fail is below the floor and the task
    declares progress. An arm with a missing value is excluded with its reason; if the control is, nothing
    can be compared. Equal differences keep the order in which the candidates were given.
    """
    sparse = {name: [measure.sparse_return for measure in arm] for name, arm in candidates.items()}
    failures = {name: _failure(values, len(control), "sparse return") for name, values in sparse.items()}
    base = [measure.sparse_return for measure in control]
    control_failure = _failure(base, len(control), "sparse return")
    sound = [values for name, values in sparse.items() if failures[name] is None]
    name: MeasureName = "sparse return"
    declared = control_failure is None and all(measure.progress is not None for measure in control)
    if declared and all(_below_floor(values, max_return, settings) for values in [base, *sound]):
        name = "progress"
        base = [measure.progress for measure in control]
        control_failure = _failure(base, len(control), name)
    arms = []
    for candidate, arm in candidates.items():
        values = [measure.progress for measure in arm] if name == "progress" else sparse[candidate]
        failure = failures[candidate] or _failure(values, len(control), name)
        failure = failure or (f"the control {control_failure}" if control_failure else None)
        differences = None if failure else tuple(float(x - y) for x, y in zip(values, base, strict=True))
        mean = None if differences is None else float(np.mean(differences))
        arms.append(ScreenArm(name=candidate, differences=differences, mean_difference=mean, failure=failure))
    arms.sort(key=lambda arm: math.inf if arm.mean_difference is None else -arm.mean_difference)
    chosen = arms[0].name if arms and arms[0].failure is None else None
    if chosen is None:
        reason = "every candidate failed" if arms else "no candidate was given"
        reason = f"nothing could be compared: the control {control_failure}" if control_failure else reason
    else:
        found = f"mean difference of {name} {arms[0].mean_difference:+.4g} over {len(control)} paired seeds"
        reason = f"{chosen} is best: {found}"
    return ScreenResult(measure=name, arms=tuple(arms), chosen=chosen, reason=reason)


def judge(
    control_return: Values,
    candidate_return: Values,
    control_progress: Values | None,
    candidate_progress: Values | None,
    max_return: float,
    settings: GateSettings,
) -> Verdict:
    """The verdict on a candidate from its paired confirmation branches (one value per seed, same order).

    *Pass* iff the mean paired difference exceeds delta and the exact permutation p is at most alpha; *fail*
    if the interval of the mean difference lies at or below delta; *inconclusive* otherwise. With every arm
    below the floor the rule is applied to progress, and a significantly worse sparse return turns a pass
    into a fail; without a declared progress the verdict is then inconclusive. A candidate with a missing or
    non-finite value fails, a control with one makes the verdict inconclusive. Arms of unequal length raise
    ``ValueError``.
    """
    n = len(control_return)
    arms = [control_return, candidate_return, control_progress, candidate_progress]
    if any(arm is not None and len(arm) != n for arm in arms):
        sizes = ", ".join(str(len(arm)) for arm in arms if arm is not None)
        raise ValueError(
            f"the arms have {sizes} values, but pairs need equally many: give one value per seed to each arm"
        )
    if (control_progress is None) != (candidate_progress is None):
        raise ValueError("only one arm has progress, but a comparison needs it of both: give both or neither")
    rule: MeasureName = "sparse return"
    numbers: dict = {
        "rule": rule, "below_floor": None, "n": n, "differences": None, "mean_difference": None,
        "interval": None, "p": None, "sparse_p_worse": None, "delta": settings.delta * max_return,
        "alpha": settings.alpha, "settings": settings,
    }  # fmt: skip
    failure = _failure(candidate_return, n, rule)
    if failure:
        return Verdict(outcome="fail", reason=f"fail: the candidate {failure}", **numbers)
    failure = _failure(control_return, n, rule)
    if failure:
        return Verdict(outcome="inconclusive", reason=f"inconclusive: the control {failure}", **numbers)
    below = all(_below_floor(values, max_return, settings) for values in (control_return, candidate_return))
    sparse = np.subtract(candidate_return, control_return)
    numbers |= {"below_floor": below, "sparse_p_worse": paired_permutation_p(-sparse)}
    differences = sparse
    if below and control_progress is not None and candidate_progress is not None:
        rule = "progress"
        numbers |= {"rule": rule, "delta": settings.delta_progress}
        failure = _failure(candidate_progress, n, rule)
        if failure:
            return Verdict(outcome="fail", reason=f"fail: the candidate {failure}", **numbers)
        failure = _failure(control_progress, n, rule)
        if failure:
            return Verdict(outcome="inconclusive", reason=f"inconclusive: the control {failure}", **numbers)
        differences = np.subtract(candidate_progress, control_progress)
    low, high = interval(differences, 1 - 2 * settings.alpha)
    mean, p, delta = float(differences.mean()), paired_permutation_p(differences), numbers["delta"]
    numbers |= {
        "differences": tuple(differences.tolist()),
        "mean_difference": mean,
        "interval": (low, high),
        "p": p,
    }
    evidence = (
        f"mean difference {mean:+.4g} (interval {low:+.4g} to {high:+.4g}, delta {delta:.4g}), "
        f"p = {p:.4g} against alpha {settings.alpha:g}, {n} pairs"
    )
    floor = f"every arm is below the competence floor ({settings.floor * max_return:.4g} sparse return)"
    if below and rule == "sparse return":
        reason = f"inconclusive: {floor} and the task declares no progress; sparse return: {evidence}"
        return Verdict(outcome="inconclusive", reason=reason, **numbers)
    where = f"; {floor}" if below else ""
    if mean > delta and p <= settings.alpha:
        worse = numbers["sparse_p_worse"]
        if below and worse <= settings.alpha:
            but = f"sparse return is significantly worse (p = {worse:.4g})"
            reason = f"fail: {rule} passes ({evidence}) but {but}{where}"
            return Verdict(outcome="fail", reason=reason, **numbers)
        return Verdict(outcome="pass", reason=f"pass on {rule}: {evidence}{where}", **numbers)
    if high <= delta:
        return Verdict(outcome="fail", reason=f"fail on {rule}: {evidence}{where}", **numbers)
    return Verdict(outcome="inconclusive", reason=f"inconclusive on {rule}: {evidence}{where}", **numbers)


def probation(
    before: Sequence[float],
    after: Values,
    before_progress: Sequence[float] | None,
    after_progress: Values | None,
    max_return: float,
    settings: GateSettings,
) -> ProbationVerdict:
    """Whether the main run is significantly below what it was before a promotion.

    ``before`` and ``after`` are sparse returns per episode, the same held-out episodes in the same order;
    progress likewise. *Regressed* iff the mean drop exceeds delta and the one-sided paired permutation p
    over episodes (exact for up to 13, else 9,999 resamples from a fixed seed) is at most alpha. Progress is
    judged where both means of sparse return are below the floor and progress is given. A missing or
    non-finite value after the promotion counts as regressed; one before it, fewer than 2 episodes, or
    unequal numbers raise ``ValueError``.
    """
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} episodes before and {len(after)} after were given, "
            "but they are compared in pairs: use the same set"
        )
    n, rule, delta = len(before), "sparse return", settings.delta * max_return
    checked(before)
    failure = _failure(after, n, rule)
    given = before_progress is not None and after_progress is not None
    if (
        given
        and not failure
        and all(_below_floor(values, max_return, settings) for values in (before, after))
    ):
        rule, delta, before, after = "progress", settings.delta_progress, before_progress, after_progress
        failure = _failure(after, n, rule)
    start = checked(before)
    common = {
        "rule": rule,
        "n": n,
        "mean_before": float(start.mean()),
        "delta": delta,
        "alpha": settings.alpha,
    }
    if failure:
        reason = f"regressed: the main run {failure}"
        return ProbationVerdict(
            outcome="regressed", mean_after=None, mean_drop=None, p=None, reason=reason, **common
        )
    end = np.asarray(after, dtype=np.float64)
    drop, p = float((start - end).mean()), sign_flip_p(start - end, _RESAMPLES, 0)
    outcome = "regressed" if drop > delta and p <= settings.alpha else "held"
    reason = (
        f"{outcome}: {rule} went from {start.mean():.4g} to {end.mean():.4g} over the same {n} episodes "
        f"(drop {drop:+.4g}, delta {delta:.4g}, p = {p:.4g} against alpha {settings.alpha:g})"
    )
    return ProbationVerdict(
        outcome=outcome, mean_after=float(end.mean()), mean_drop=drop, p=p, reason=reason, **common
    )


def _below_floor(values: Values, max_return: float, settings: GateSettings) -> bool:
    return float(np.mean(values)) < settings.floor * max_return


def _failure(values: Values, expected: int, what: str) -> str | None:
    """Why an arm cannot be compared (a sentence's predicate), or ``None`` where every value is finite."""
    if expected < 1 or len(values) != expected:
        return f"has {len(values)} of {max(expected, 1)} {what} values"
    for index, value in enumerate(values):
        if value is None:
            return f"has no {what} for seed {index + 1} of {expected}"
        if not math.isfinite(value):
            return f"has a {what} that is not finite for seed {index + 1} of {expected}"
    return None


def _mean_of_means(values: Sequence[Sequence[float]]) -> float | None:
    mean = float(np.mean([np.mean(each) for each in values]))
    return mean if math.isfinite(mean) else None

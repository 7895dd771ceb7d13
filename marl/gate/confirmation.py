"""The gate: the statistics that decide whether a shaping change may be promoted, and whether it has held since.

Two steps. *Screening* (``marl.gate.screening``) ranks candidates on a few seeds and chooses one; *confirmation*, here,
compares that one with the control on fresh paired seeds. Where they are below the competence floor, sparse returns
cannot tell arms apart and the task's declared progress is judged instead. *Probation* (``marl.gate.probation``)
looks back after a promotion. Everything is a pure function of the numbers given.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from learning_signal.marl.gate.judge import Outcome
from learning_signal.marl.gate.judges import Control
from learning_signal.marl.gate.measure import MeasureName, Values, failure, words
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.statistics import interval, paired_permutation_p
from learning_signal.marl.settings import Frozen


class Verdict(Frozen):
    """The outcome of a confirmation and every number it rests on; ``None``: could not be computed."""

    outcome: Outcome
    measure: MeasureName
    """The measure that was judged; ``differences`` to ``delta`` are in its units."""
    below_floor: bool | None
    n: int
    """Number of pairs."""
    differences: tuple[float, ...] | None
    """Candidate minus control, one per paired seed."""
    mean_difference: float | None
    interval: tuple[float, float] | None
    """Student-t interval of the mean difference at level ``1 - 2 alpha``, with the alpha below."""
    p: float | None
    """Exact one-sided paired permutation p of "candidate better than control"."""
    sparse_p_worse: float | None
    """Exact one-sided p of "candidate's sparse return worse than the control's"."""
    delta: float
    """What the mean difference had to exceed; the margin of a control that tests nothing."""
    alpha: float | None
    """What p had to reach; ``None`` where nothing was tested."""
    reason: str
    settings: GateSettings


def judge(
    control_return: Values,
    candidate_return: Values,
    control_progress: Values | None,
    candidate_progress: Values | None,
    max_return: float,
    settings: GateSettings,
    confirmations: int = 1,
) -> Verdict:
    """The verdict on a candidate from its paired confirmation branches (one value per seed, same order).

    *Pass* iff the mean paired difference exceeds delta and the exact permutation p is at most alpha; *fail*
    if the interval of the mean difference lies at or below delta; *inconclusive* otherwise. Where the better arm of
    each pair averages below the floor the rule is applied to progress, and a significantly worse sparse return (at
    ``alpha``) turns a pass into a fail; without a declared progress the verdict is then inconclusive. A candidate
    with a missing or non-finite value fails, a control with one makes the verdict inconclusive. Where nothing differs,
    a pass is at most as probable as alpha: of all ways to swap arms within pairs no larger share passes.
    ``confirmations`` that the session can make share ``family_alpha``, if there is one. A judge that tests
    nothing (`marl.gate.judges`) rules on sparse return alone. Arms of unequal length raise ``ValueError``.
    """
    n, alpha = len(control_return), settings.shared_alpha(confirmations)
    arms = [control_return, candidate_return, control_progress, candidate_progress]
    if any(arm is not None and len(arm) != n for arm in arms):
        sizes = ", ".join(str(len(arm)) for arm in arms if arm is not None)
        raise ValueError(
            f"the arms have {sizes} values, but pairs need equally many: give one value per seed to each arm"
        )
    if (control_progress is None) != (candidate_progress is None):
        raise ValueError("only one arm has progress, but a comparison needs it of both: give both or neither")
    measure: MeasureName = "sparse_return"
    numbers: dict[str, Any] = {
        "measure": measure,
        "below_floor": None,
        "n": n,
        "differences": None,
        "mean_difference": None,
        "interval": None,
        "p": None,
        "sparse_p_worse": None,
        "delta": settings.delta * max_return,
        "alpha": alpha,
        "settings": settings,
    }
    if isinstance(settings.judge, Control):
        return _untested(settings.judge, control_return, candidate_return, max_return, settings, numbers)
    flaw = failure(candidate_return, n, measure)
    if flaw:
        return Verdict(outcome="fail", reason=f"fail: the candidate {flaw}", **numbers)
    flaw = failure(control_return, n, measure)
    if flaw:
        return Verdict(outcome="inconclusive", reason=f"inconclusive: the control {flaw}", **numbers)
    # The better of each pair: the choice of what is judged must not depend on which arm is which, or p is not exact.
    control, candidate = np.asarray(control_return, np.float64), np.asarray(candidate_return, np.float64)
    below = float(np.maximum(control, candidate).mean()) < settings.floor * max_return
    sparse = candidate - control
    numbers |= {"below_floor": below, "sparse_p_worse": paired_permutation_p(-sparse)}
    differences = sparse
    if below and control_progress is not None and candidate_progress is not None:
        measure = "progress"
        numbers |= {"measure": measure, "delta": settings.delta_progress}
        flaw = failure(candidate_progress, n, measure)
        if flaw:
            return Verdict(outcome="fail", reason=f"fail: the candidate {flaw}", **numbers)
        flaw = failure(control_progress, n, measure)
        if flaw:
            return Verdict(outcome="inconclusive", reason=f"inconclusive: the control {flaw}", **numbers)
        differences = np.asarray(candidate_progress, np.float64) - np.asarray(control_progress, np.float64)
    low, high = interval(differences, 1 - 2 * alpha)
    mean, p, delta = float(differences.mean()), paired_permutation_p(differences), numbers["delta"]
    numbers |= {"differences": tuple(differences.tolist()), "mean_difference": mean, "interval": (low, high), "p": p}
    family = ""
    if settings.family_alpha is not None:
        family = f" (one of {confirmations} that share family alpha {settings.family_alpha:g})"
    evidence = (
        f"mean difference {mean:+.4g} ({1 - 2 * alpha:.1%} interval {low:+.4g} to {high:+.4g}, delta {delta:.4g}), "
        f"p = {p:.4g} (smallest possible {2.0**-n:.4g}) against alpha {alpha:g}{family}, {n} pairs"
    )
    limit = f"{settings.floor * max_return:.4g} sparse return"
    floor = f"the mean of the better of each pair is below the competence floor ({limit})"
    if below and measure == "sparse_return":
        reason = f"inconclusive: {floor} and the task declares no progress; sparse return: {evidence}"
        return Verdict(outcome="inconclusive", reason=reason, **numbers)
    where = f"; {floor}" if below else ""
    if mean > delta and p <= alpha:
        worse = numbers["sparse_p_worse"]
        if below and worse <= settings.alpha:
            but = f"sparse return is significantly worse (p = {worse:.4g})"
            reason = f"fail: {words(measure)} passes ({evidence}) but {but}{where}"
            return Verdict(outcome="fail", reason=reason, **numbers)
        return Verdict(outcome="pass", reason=f"pass on {words(measure)}: {evidence}{where}", **numbers)
    if high <= delta:
        return Verdict(outcome="fail", reason=f"fail on {words(measure)}: {evidence}{where}", **numbers)
    return Verdict(outcome="inconclusive", reason=f"inconclusive on {words(measure)}: {evidence}{where}", **numbers)


def _untested(
    judge: Control,
    control: Values,
    candidate: Values,
    max_return: float,
    settings: GateSettings,
    numbers: dict[str, Any],
) -> Verdict:
    """The verdict of a judge that tests nothing: the measured sparse returns and its ruling on them."""
    n, threshold = len(control), judge.threshold(settings, max_return)
    numbers = numbers | {"alpha": None, "delta": threshold}
    flaw = failure(candidate, n, "sparse_return")
    if flaw:
        return Verdict(outcome="fail", reason=f"fail: the candidate {flaw}", **numbers)
    flaw, mean = failure(control, n, "sparse_return"), None
    measured = f"the control {flaw}"
    if not flaw:
        ours, theirs = np.asarray(candidate, np.float64), np.asarray(control, np.float64)
        mean = float((ours - theirs).mean())
        numbers |= {"differences": tuple((ours - theirs).tolist()), "mean_difference": mean}
        measured = f"sparse return {ours.mean():.4g} against the control's {theirs.mean():.4g} ({mean:+.4g})"
    outcome, reason = judge.ruling(measured, mean, threshold)
    return Verdict(outcome=outcome, reason=reason, **numbers)

"""A confirmation as a trial: after every look at the branches of both arms, whether it passes, ends or goes on.

What is compared is fixed before (`marl.gate.order`), how often the trial passes where nothing differs is counted
exactly (`marl.gate.sequential`). Everything is a pure function of the numbers given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learning_signal.marl.gate.judge import Outcome
from learning_signal.marl.gate.measure import Measure, MeasureName, failure, words
from learning_signal.marl.gate.order import Order
from learning_signal.marl.gate.sequential import design, p_value, repeated_interval, wins
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.settings import Frozen


class Look(Frozen):
    """What a look at a trial came to, and every number it rests on; ``None``: could not be computed."""

    outcome: Outcome | None
    """None: the trial goes on with one more branch of each arm."""
    measure: MeasureName
    """Sparse return where it counts and differs by more than its delta, else progress, where the task declares any;
    differences, interval and delta are in its units."""
    look: int
    """Branches of each arm."""
    wins: int | None
    """Pairs, of ``look ** 2``, in which the candidate's branch is the better one."""
    pass_at: int | None
    """Wins from which this look passes; None where it cannot."""
    means: dict[str, dict[MeasureName, float | None]]
    """Both measures of both arms (``control``, ``candidate``): means over their branches."""
    mean_difference: float | None
    interval: tuple[float | None, float | None]
    """Of the shift of the candidate's branches against the control's: each bound at level ``1 - miss`` of the design,
    whichever look ends the trial; None where this look can reject nothing."""
    p: float | None
    """Exact probability of a result at least as good where nothing differs; earlier passes count as better."""
    level: float
    """What the trial may pass with at most, where nothing differs."""
    size: float
    """What it does pass with: exactly, but for ties, which count against the candidate."""
    delta: float
    """What the mean difference must exceed besides."""
    order: Order
    reason: str
    settings: GateSettings


def judge_look(
    control: Sequence[Measure],
    candidate: Sequence[Measure],
    order: Order,
    max_return: float,
    settings: GateSettings,
    level: float,
) -> Look:
    """The outcome of a trial at ``level`` after so many branches of each arm; its outcome is None where it goes on.

    *Pass* iff the candidate wins enough pairs for this look, its mean difference exceeds delta, and, where that is of
    progress, its sparse return is not below the control's by more than the delta of sparse return. A trial that ends
    without a pass *fails* where it is, where the mean difference is at most delta, or where a candidate's branch has no
    finite measure; it is *inconclusive* otherwise, or where a branch of the control has none. Unequal numbers of
    branches raise ``ValueError``.
    """
    look = len(control)
    if look != len(candidate) or not 1 <= look <= settings.looks:
        raise ValueError(
            f"found {look} branches of the control and {len(candidate)} of the candidate, expected as many of both, "
            f"at most {settings.looks}"
        )
    plan = design(level, settings.looks)
    needed = plan.pass_at[look - 1]
    arms = {"candidate": candidate, "control": control}
    numbers: dict[str, Any] = {
        "measure": "sparse_return",
        "look": look,
        "wins": None,
        "pass_at": needed,
        "means": {name: _means(arm) for name, arm in arms.items()},
        "mean_difference": None,
        "interval": (None, None),
        "p": None,
        "level": level,
        "size": plan.size,
        "delta": settings.delta * max_return,
        "order": order,
        "settings": settings,
    }
    for name in ("candidate", "control"):
        flaw = _flaw(arms[name], order)
        if flaw:
            broken: Outcome = "fail" if name == "candidate" else "inconclusive"
            return Look(outcome=broken, reason=f"{broken}: the {name} {flaw}", **numbers)
    keys = {name: [order.key(_number(one.sparse_return), one.progress) for one in arm] for name, arm in arms.items()}
    won = wins(keys["control"], keys["candidate"])
    delta_sparse = settings.delta * max_return
    gain = float(np.mean(_values(candidate, "sparse_return")) - np.mean(_values(control, "sparse_return")))
    measure = order.decides(gain, delta_sparse)
    theirs, ours = _values(control, measure), _values(candidate, measure)
    mean = float(np.mean(ours) - np.mean(theirs))
    delta = settings.delta_progress if measure == "progress" else delta_sparse
    low, high = repeated_interval(theirs, ours, plan)
    between = "" if low is None or high is None else f" ({1 - 2 * plan.miss:.1%} interval {low:+.4g} to {high:+.4g})"
    numbers |= {
        "measure": measure,
        "wins": won,
        "mean_difference": mean,
        "interval": (low, high),
        "p": p_value(won, look, level, settings.looks),
        "delta": delta,
    }
    worse = measure == "progress" and -gain > delta_sparse
    size = "one branch of each arm" if look == 1 else f"{look} branches of each arm"
    evidence = (
        f"{won} of {look**2} pairs won ({size}), mean difference of {words(measure)} {mean:+.4g}{between}, "
        f"p = {numbers['p']:.3g} (smallest possible {plan.smallest_p[look - 1]:.3g}) at level {level:.3g}"
    )
    both = _both(numbers["means"])
    if needed is not None and won >= needed:
        if mean <= delta:
            reason = f"fail: {evidence}, but the difference does not exceed delta {delta:.4g}; {both}"
            return Look(outcome="fail", reason=reason, **numbers)
        if worse:
            reason = f"fail: {evidence}, but sparse return is lower by {-gain:.4g}; {both}"
            return Look(outcome="fail", reason=reason, **numbers)
        gained = ""
        if measure == "progress":
            less = f", without a gain in sparse return above delta {delta_sparse:.4g}"
            gained = f", sparse return {gain:+.4g}" if gain > delta_sparse else less
        return Look(outcome="pass", reason=f"pass on {words(measure)}{gained}: {evidence}; {both}", **numbers)
    if won > plan.stop_at[look - 1]:
        return Look(outcome=None, reason=f"not decided: {evidence}", **numbers)
    outcome: Outcome = "fail" if mean <= delta or worse else "inconclusive"
    end = f"{evidence}; the trial ended as it could hardly pass" if look < settings.looks else evidence
    return Look(outcome=outcome, reason=f"{outcome} on {words(measure)}: {end}; {both}", **numbers)


def _flaw(arm: Sequence[Measure], order: Order) -> str | None:
    """Why an arm cannot be ordered, or None."""
    names: tuple[MeasureName, ...] = ("sparse_return", "progress") if order.progress else ("sparse_return",)
    for name in names:
        flaw = failure([one.progress if name == "progress" else one.sparse_return for one in arm], len(arm), name)
        if flaw:
            return flaw
    return None


def _values(arm: Sequence[Measure], name: MeasureName) -> list[float]:
    return [_number(one.progress if name == "progress" else one.sparse_return) for one in arm]


def _number(value: float | None) -> float:
    assert value is not None, "an arm with a missing value has no outcome to compute"
    return value


def _means(arm: Sequence[Measure]) -> dict[MeasureName, float | None]:
    """Both measures over the branches; None where one is missing."""
    values: Mapping[MeasureName, list[float | None]] = {
        "progress": [one.progress for one in arm],
        "sparse_return": [one.sparse_return for one in arm],
    }
    return {
        name: float(np.mean([_number(one) for one in column])) if failure(column, len(arm), name) is None else None
        for name, column in values.items()
    }


def _both(means: Mapping[str, Mapping[MeasureName, float | None]]) -> str:
    """Both measures of both arms in words."""
    names: tuple[MeasureName, ...] = ("sparse_return", "progress")
    said = [
        f"{words(name)} {means['candidate'][name]:.4g} against the control's {means['control'][name]:.4g}"
        for name in names
        if means["control"][name] is not None and means["candidate"][name] is not None
    ]
    return ", ".join(said)

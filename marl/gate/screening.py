"""Screening: rank candidates by a few short runs, and say which go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from learning_signal.marl.gate.measure import Measure, MeasureName, Values, failure, sound, words
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.settings import Frozen

MEASURES: tuple[MeasureName, ...] = ("progress", "sparse_return")


class ScreenArm(Frozen):
    """One candidate of a screening."""

    name: str
    differences: tuple[float, ...] | None
    """Candidate minus control, one per seed that the control finished, in the measure of the screening; ``None`` for
    an excluded arm.
    """
    mean_difference: float | None
    failure: str | None
    """Why this arm was not compared, or ``None``."""
    gains: dict[MeasureName, float | None] | None = None
    """Mean differences in both measures; ``None`` where they were not both used."""


class ScreenResult(Frozen):
    """Candidates from best to worst, then those that could not be compared."""

    measure: MeasureName
    arms: tuple[ScreenArm, ...]
    chosen: str | None
    """The best candidate, once the screen is over; ``None`` where nothing could be compared or several go on."""
    goes_on: tuple[str, ...] | None = None
    """The candidates of the next rung, best first; ``None`` where this was the last."""
    order: Order | None = None
    """What makes one branch better than another, in this screen and in the confirmation that follows it; ``None`` where
    one measure alone is compared."""
    confirmable: tuple[str, ...] | None = None
    """The candidates that may be confirmed, best first: those better than the control; ``None``: ``chosen`` alone."""
    reason: str


def rank_screen(
    control: Sequence[Measure],
    candidates: Mapping[str, Sequence[Measure]],
    max_return: float,
    settings: GateSettings,
    rung: int = 0,
) -> ScreenResult:
    """Rank candidates by their mean paired difference to the control, seed by seed in the same order.

    Sparse return is compared, or progress where every arm that did not fail is below the floor and the task
    declares progress (unless the judge never ranks by it). A seed that the control did not finish is left out for
    every arm, and says so; where none is left, nothing can be compared. An arm with a missing value on a seed that
    is left is excluded with its reason. Equal differences keep the order in which the candidates were given.

    On a ``rung`` before the last (successive halving: Jamieson and Talwalkar 2016, arXiv 1502.07943) the better half
    of the candidates, rounded up, goes on. The screen is over as soon as one is left, or the control has lost a seed.
    """
    if settings.judge.sequential:
        return _rank_by_order(control, candidates, settings, rung)
    n = len(control)
    name, flaw = _measure(control, candidates, max_return, settings)
    base = _values(control, name)
    seeds = [index for index, value in enumerate(base) if sound(value)]
    whole = len(seeds) == n and flaw is None
    arms = []
    for candidate, arm in candidates.items():
        why = _excluded(arm, name, n, seeds) or (None if seeds else f"the control {flaw}")
        pairs = [(value, base[index]) for index, value in enumerate(_values(arm, name)) if index in seeds]
        differences = None if why else tuple(mine - theirs for mine, theirs in pairs if sound(mine) and sound(theirs))
        mean = None if differences is None else float(np.mean(differences))
        arms.append(ScreenArm(name=candidate, differences=differences, mean_difference=mean, failure=why))
    arms.sort(key=lambda arm: math.inf if arm.mean_difference is None else -arm.mean_difference)
    better = [arm.name for arm in arms if arm.failure is None][: math.ceil(len(arms) / 2)]
    goes_on = tuple(better) if whole and rung < settings.screen_halvings and len(better) > 1 else None
    chosen = better[0] if better and goes_on is None else None
    if better:
        best = f"mean difference of {words(name)} {arms[0].mean_difference:+.4g} over {len(seeds)} paired seeds"
        reason = f"{better[0]} is best: {best}" + ("" if whole else f"; the control {flaw}, which is left out")
        reason += f"; {', '.join(goes_on)} go on" if goes_on else ""
    elif seeds or not candidates:
        reason = "every candidate failed" if arms else "no candidate was given"
    else:
        reason = f"nothing could be compared: the control {flaw}"
    return ScreenResult(measure=name, arms=tuple(arms), chosen=chosen, goes_on=goes_on, reason=reason)


def _rank_by_order(
    control: Sequence[Measure], candidates: Mapping[str, Sequence[Measure]], settings: GateSettings, rung: int
) -> ScreenResult:
    """Rank candidates by their mean gain in sparse return, in steps of what can be measured, then by that in progress.

    One that gains nothing in this order is not confirmable.
    """
    n = len(control)
    base = _values(control, "sparse_return")
    flaw = failure(base, n, "sparse_return")
    seeds = [index for index, value in enumerate(base) if sound(value)]
    declared = bool(seeds) and all(sound(control[index].progress) for index in seeds)
    last: MeasureName = "progress" if declared else "sparse_return"
    why = {name: _excluded(arm, last, n, seeds) for name, arm in candidates.items()}
    compared = {"control": control} | {name: arm for name, arm in candidates.items() if not why[name]}
    order = order_of({name: [arm[index] for index in seeds] for name, arm in compared.items()}, declared)
    gains = {
        name: {measure: _gain(control, arm, measure, seeds) for measure in MEASURES}
        for name, arm in candidates.items()
        if not why[name] and seeds
    }
    keys = {name: order.gain(gain["sparse_return"] or 0.0, gain["progress"]) for name, gain in gains.items()}
    ranked = sorted(keys, key=lambda name: keys[name], reverse=True)  # equal ones keep their order
    separated = order.step is not None and any(key[0] for key in keys.values())
    measure: MeasureName = "sparse_return" if separated or not declared else "progress"
    arms = [
        ScreenArm(
            name=name,
            differences=tuple(_differences(control, candidates[name], measure, seeds)),
            mean_difference=gains[name][measure],
            gains=gains[name],
            failure=None,
        )
        for name in ranked
    ]
    arms += [
        ScreenArm(name=name, differences=None, mean_difference=None, failure=why[name] or f"the control {flaw}")
        for name in candidates
        if name not in gains
    ]
    nothing = order.gain(0.0, 0.0 if declared else None)
    confirmable = tuple(name for name in ranked if keys[name] > nothing)
    better = ranked[: math.ceil(len(candidates) / 2)]
    further = flaw is None and rung < settings.screen_halvings and len(better) > 1
    goes_on = tuple(better) if further else None
    chosen = confirmable[0] if confirmable and goes_on is None else None
    return ScreenResult(
        measure=measure,
        arms=tuple(arms),
        chosen=chosen,
        goes_on=goes_on,
        order=order,
        confirmable=confirmable if goes_on is None else None,
        reason=_reason(arms, measure, len(seeds), chosen, goes_on, order, flaw),
    )


def _reason(
    arms: Sequence[ScreenArm],
    measure: MeasureName,
    seeds: int,
    chosen: str | None,
    goes_on: tuple[str, ...] | None,
    order: Order,
    flaw: str | None,
) -> str:
    if not arms:
        return "no candidate was given"
    if not seeds:
        return f"nothing could be compared: the control {flaw}"
    first = arms[0]
    if first.failure is not None:
        return "every candidate failed"
    numbers = f"mean difference of {words(measure)} {first.mean_difference:+.4g} over {seeds} seed{'s' * (seeds > 1)}"
    said = f"{first.name} is best: {numbers}; {order.reason}"
    if flaw is not None:
        said += f"; the control {flaw}, which is left out"
    if goes_on is not None:
        return f"{said}; {', '.join(goes_on)} go on"
    return said if chosen is not None else f"{said}; but no candidate does better than the control"


def _differences(
    control: Sequence[Measure], arm: Sequence[Measure], measure: MeasureName, seeds: Sequence[int]
) -> list[float]:
    pairs = zip(_values(arm, measure), _values(control, measure), strict=True)
    return [
        mine - theirs
        for index, (mine, theirs) in enumerate(pairs)
        if index in seeds and mine is not None and theirs is not None
    ]


def _gain(
    control: Sequence[Measure], arm: Sequence[Measure], measure: MeasureName, seeds: Sequence[int]
) -> float | None:
    """The mean difference over the seeds; None where the measure is missing on one of them."""
    found = _differences(control, arm, measure, seeds)
    return float(np.mean(found)) if len(found) == len(seeds) else None


def _measure(
    control: Sequence[Measure], candidates: Mapping[str, Sequence[Measure]], max_return: float, settings: GateSettings
) -> tuple[MeasureName, str | None]:
    """The measure the arms are compared by, and why the control cannot be compared by it, if so."""
    n = len(control)
    base = _values(control, "sparse_return")
    flaw = failure(base, n, "sparse_return")
    seeds = [index for index, value in enumerate(base) if sound(value)]
    compared = [control, *(arm for arm in candidates.values() if not _excluded(arm, "sparse_return", n, seeds))]
    declared = seeds and all(control[index].progress is not None for index in seeds)
    floor = settings.floor * max_return
    if (
        declared
        and settings.judge.ranks_progress
        and all(_mean(_values(arm, "sparse_return"), seeds) < floor for arm in compared)
    ):
        return "progress", failure(_values(control, "progress"), n, "progress")
    return "sparse_return", flaw


def _values(arm: Sequence[Measure], name: MeasureName) -> list[float | None]:
    return [measure.progress if name == "progress" else measure.sparse_return for measure in arm]


def _mean(values: Values, seeds: Sequence[int]) -> float:
    """The mean over these seeds, all of which have a value."""
    return float(np.mean([value for index, value in enumerate(values) if index in seeds and sound(value)]))


def _excluded(arm: Sequence[Measure], name: MeasureName, n: int, seeds: Sequence[int]) -> str | None:
    """Why an arm cannot be compared on these of its ``n`` seeds, or ``None``."""
    if len(arm) != n:
        return failure(_values(arm, name), n, name)
    measures: tuple[MeasureName, ...] = ("sparse_return", name)
    for what in measures:
        values = _values(arm, what)
        if any(not sound(values[index]) for index in seeds):
            return failure(values, n, what)
    return None

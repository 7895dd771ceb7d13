"""Rows of the gate's table: the promotions of each rule, counted from trials, and the cost of a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.support.cases import Case
from bench.support.trials import (
    BAD,
    CLONE,
    GOOD,
    LEVELS,
    Arm,
    Offer,
    Trial,
    fours,
    paired_verdict,
    share_interval,
    usual,
)
from learning_signal.ledger.wording import shaping_text
from learning_signal.marl.gate.measure import words

WORST_RATE, WORST_UPPER, LEAST_POWER = 0.05, 0.10, 0.80
SECONDS = 30.0
"""Wall seconds that a decision on ``spread`` may take on two workers."""
OWN = tuple(zip(("this gate", "its share of a session"), LEVELS, strict=True))
PAIRED_RULE = "the paired gate of version 0.1"
USUAL = {"usual practice": {}, "usual, without the 3 %": {"margin": 0.0}, "usual, on progress": {"measure": "progress"}}
"""Variants of usual practice with single runs: on sparse return, as public systems do it, and two others."""


@dataclass(frozen=True)
class Row:
    """The number of times that one rule did one thing, and the cost of its decisions."""

    scenario: str
    rule: str
    trials: int
    count: int
    env_steps: float
    """Trained for one decision; the mean."""
    evaluation_steps: float
    """Played in the evaluations of the same branches; the mean."""
    seconds: float
    """Of workers, for one decision; the median, as other work slows some."""
    target: str = ""
    met: bool | None = None

    @property
    def rate(self) -> float:
        return self.count / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return share_interval(self.count, self.trials)


@dataclass(frozen=True)
class Measured:
    """The trials on one task. Null trials take its parents in turn."""

    nulls: Sequence[Trial]
    offers: Sequence[Offer] = ()
    pairs: Sequence[tuple[Arm, Arm]] = ()
    """Null trials of the paired gate: control and clone."""


@dataclass(frozen=True)
class Report:
    """The results on one task."""

    case: Case
    rows: tuple[Row, ...]
    parents: tuple[dict, ...]
    """Per parent: the means of its null trials' branches, and the promotions there."""
    null_outcomes: dict[str, int]
    screens: dict[str, int]
    """The number of screens by the candidate they chose and what its confirmation was ordered by."""


def report(case: Case, found: Measured, workers: int) -> Report:
    """Every rule's decisions on these trials, counted."""
    largest = case.max_return
    looks = [trial.ended(largest, LEVELS[0]) for trial in found.nulls]
    rows = [*_null_rows(case, found), *_offer_rows(case, found.offers, workers)]
    parents = []
    for position, parent in enumerate(case.parents):
        own = range(position, len(found.nulls), len(case.parents))
        trials = [found.nulls[index] for index in own]
        branches = [score.measure for trial in trials for score in (*trial.control, *trial.candidate)]
        parents.append(
            {
                "parent": parent.name,
                "env_steps": case.trunk(parent).env_steps,
                "shaping": shaping_text(parent.shaping.canonical()),
                "sparse_return": _mean([each.sparse_return for each in branches]),
                "progress": _mean([each.progress for each in branches]),
                "judged_on": dict(Counter(words(looks[index].measure) for index in own)),
                "trials": len(own),
                "promoted": sum(looks[index].outcome == "pass" for index in own),
            }
        )
    chosen = Counter(_chosen(each) for each in found.offers)
    return Report(case, tuple(rows), tuple(parents), dict(Counter(str(each.outcome) for each in looks)), dict(chosen))


def _chosen(offer: Offer) -> str:
    """The candidate that the screen chose, and what its confirmation is ordered by."""
    if offer.trial is None:
        return "nothing"
    measure = "progress alone" if offer.trial.order.step is None else "sparse return first"
    return f"the {offer.chosen} one, on {measure}"


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _null_rows(case: Case, found: Measured) -> list[Row]:
    rows, largest, scenario = [], case.max_return, "nothing differs"
    target = f"<= {WORST_RATE:.0%}, upper <= {WORST_UPPER:.0%}"
    for rule, level in OWN if found.nulls else ():
        looks = [trial.ended(largest, level) for trial in found.nulls]
        false = sum(look.outcome == "pass" for look in looks)
        cost = _cost([trial.needed(look) for trial, look in zip(found.nulls, looks, strict=True)])
        met = false / len(looks) <= WORST_RATE and share_interval(false, len(looks))[1] <= WORST_UPPER
        rows.append(Row(scenario, f"{rule} ({level:.2g})", len(looks), false, *cost, target, met))
    if found.pairs:
        false = sum(paired_verdict(*arms, largest).outcome == "pass" for arms in found.pairs)
        cost = _cost([[*control, *clone] for control, clone in found.pairs])
        rows.append(Row(scenario, PAIRED_RULE, len(found.pairs), false, *cost))
    singles = fours(found.nulls, len(case.parents))
    if singles:
        cost = _cost([[control, *others.values()] for control, others in singles])
        for rule, options in USUAL.items():
            promoted = sum(usual(*four, largest, **options) is not None for four in singles)
            rows.append(Row(scenario, rule, len(singles), promoted, *cost))
    return rows


def _offer_rows(case: Case, offers: Sequence[Offer], workers: int) -> list[Row]:
    if not offers:
        return []
    largest, trials, rows, bad_rows = case.max_return, len(offers), [], []
    good_one, another, bad_one = "offered three: the good one", "offered three: another", "offered bad"
    for rule, level in OWN:
        name = f"{rule} ({level:.2g})"
        named = [offer.promoted(largest, level) for offer in offers]
        cost = _cost([offer.needed(largest, level) for offer in offers])
        good, other = named.count(GOOD), sum(each in (BAD, CLONE) for each in named)
        in_time = case.task != "spread" or workers != 2 or cost[2] / workers <= SECONDS
        target = f">= {LEAST_POWER:.0%}" + (f", {SECONDS:.0f} s" if case.task == "spread" else "")
        met = good / trials >= LEAST_POWER and in_time
        rows.append(Row(good_one, name, trials, good, *cost, target, met))
        rows.append(Row(another, name, trials, other, *cost))
        looks = [offer.alone.ended(largest, level) for offer in offers]
        cost = _cost([offer.alone.needed(look) for offer, look in zip(offers, looks, strict=True)])
        bad_rows.append(Row(bad_one, name, trials, sum(look.outcome == "pass" for look in looks), *cost))
    singles = [dict(offer.singles) for offer in offers]
    controls = [each.pop("control") for each in singles]
    cost = _cost([[control, *others.values()] for control, others in zip(controls, singles, strict=True)])
    bad_cost = _cost([[control, others[BAD]] for control, others in zip(controls, singles, strict=True)])
    for rule, options in USUAL.items():
        names = [usual(*each, largest, **options) for each in zip(controls, singles, strict=True)]
        good, none = names.count(GOOD), names.count(None)
        rows.append(Row(good_one, rule, trials, good, *cost))
        rows.append(Row(another, rule, trials, trials - good - none, *cost))
        twos = [(control, {BAD: others[BAD]}) for control, others in zip(controls, singles, strict=True)]
        bad = sum(usual(*two, largest, **options) is not None for two in twos)
        bad_rows.append(Row(bad_one, rule, trials, bad, *bad_cost))
    return [*rows, *bad_rows]


def _cost(decisions: Sequence[Arm]) -> tuple[float, float, float]:
    """Env steps trained and played in evaluations (means) and worker seconds (median) of one decision."""
    steps = fmean(sum(score.env_steps for score in branches) for branches in decisions)
    played = fmean(sum(score.evaluation_steps for score in branches) for branches in decisions)
    return steps, played, median(sum(score.seconds for score in branches) for branches in decisions)

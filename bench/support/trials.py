"""Trials of the gate: the scores of their branches, trained when a trial asks for them, and each rule's decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.gate.confirmation import Verdict, judge
from learning_signal.marl.gate.judges import SINGLE_RUN
from learning_signal.marl.gate.measure import Measure, later_half_mean
from learning_signal.marl.gate.order import Order, order_of
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.trial import Look, judge_look
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.tools.plan.settings import SessionSettings

CONTROL, CLONE, GOOD, BAD = "control", "clone", "good", "bad"
OFFERED = (GOOD, BAD, CLONE)
MARGIN: float = GateSettings.model_fields["single_run_margin"].default
"""The margin by which usual practice asks a run to be better, as a share of the maximum."""
GATE, PAIRED = GateSettings(), GateSettings(mode="paired")
LEVELS = (GATE.alpha, GATE.level(0.0, SessionSettings().confirmations))
"""Of a confirmation that stands alone, and of the first one of a default session."""

Arm = Sequence["Score"]
Branch = Callable[[str, str, int], "Score"]
"""The score of a branch by its arm, its purpose (each has seeds of its own) and its number from 0."""


@dataclass(frozen=True)
class Score:
    """The measure of one branch and its cost."""

    measure: Measure
    """On the set of episodes that its purpose calls for."""
    env_steps: int = 0
    evaluation_steps: int = 0
    """Env steps that its evaluations played."""
    seconds: float = 0.0
    """Of one worker: training, evaluation and saving."""


def score(pool: Executor, spec: SegmentSpec, episodes: str) -> Score:
    """A segment, trained unless it is stored, as it scores on one set of episodes; one that fails measures ``None``.

    ``SegmentImpossible`` where the machine or the program is at fault.
    """
    try:
        result = pool.submit(spec).result()
    except SegmentImpossible:
        raise
    except SegmentFailed as failure:
        return Score(Measure(sparse_return=None, progress=None), failure.env_steps)
    played = result.evaluation_steps or 0
    return Score(later_half_mean(result.evaluations_of(episodes)), result.env_steps, played, result.wall_seconds)


@dataclass(frozen=True)
class Trial:
    """A confirmation of this gate: the branches of each arm until the trial had ended at every level."""

    order: Order
    control: Arm
    candidate: Arm

    def ended(self, max_return: float, level: float, gate: GateSettings = GATE) -> Look:
        """The look that ends the trial at this level; ``ValueError`` where its branches are too few for that."""
        for count in range(1, len(self.control) + 1):
            look = judge_look(
                _measures(self.control[:count]), _measures(self.candidate[:count]), self.order, max_return, gate, level
            )
            if look.outcome is not None:
                return look
        raise ValueError(f"found {len(self.control)} branches of each arm, expected more: level {level:g} goes on")

    def needed(self, look: Look) -> list[Score]:
        """The branches of both arms until ``look``."""
        return [*self.control[: look.look], *self.candidate[: look.look]]


def confirmation(
    control: Callable[[int], Score],
    candidate: Callable[[int], Score],
    order: Order,
    max_return: float,
    levels: Sequence[float] = LEVELS,
    gate: GateSettings = GATE,
) -> Trial:
    """Take one more branch of each arm until a trial at each of ``levels`` has ended."""
    arms: tuple[list[Score], list[Score]] = ([], [])
    going = list(levels)
    while going:
        for arm, branch in zip(arms, (control, candidate), strict=True):
            arm.append(branch(len(arm)))
        mine, theirs = (_measures(arm) for arm in arms)
        going = [level for level in going if judge_look(mine, theirs, order, max_return, gate, level).outcome is None]
    return Trial(order, *arms)


@dataclass(frozen=True)
class Offer:
    """A trial with three candidates (good, bad, clone), and one of the bad one alone."""

    screen: Mapping[str, Arm]
    chosen: str | None
    """The candidate that the screen chooses."""
    trial: Trial | None
    """The confirmation of the chosen one; None where nothing was chosen."""
    alone: Trial
    """The confirmation of the bad one without a screen."""
    singles: Mapping[str, Score]
    """One full-length run of each arm, the control's included: the runs of usual practice."""

    def promoted(self, max_return: float, level: float) -> str | None:
        """The candidate that the whole gate promotes: the chosen one, if it passes its confirmation."""
        if self.trial is None or self.trial.ended(max_return, level).outcome != "pass":
            return None
        return self.chosen

    def needed(self, max_return: float, level: float) -> list[Score]:
        """Every branch that this decision takes: the screen's, and those of the confirmation."""
        confirmed = [] if self.trial is None else self.trial.needed(self.trial.ended(max_return, level))
        return [score for arm in self.screen.values() for score in arm] + confirmed


def offer(branch: Branch, head: Measure, max_return: float) -> Offer:
    """The whole gate on three candidates, then the bad one alone, whose order is that of its parent, ``head``."""
    screen = {arm: [branch(arm, "screen", index) for index in range(GATE.screen_seeds)] for arm in (CONTROL, *OFFERED)}
    measures = {arm: _measures(scores) for arm, scores in screen.items()}
    result = rank_screen(measures.pop(CONTROL), measures, max_return, GATE)
    chosen = result.chosen
    trial = None
    if chosen is not None and result.order is not None:
        trial = confirmation(
            lambda index: branch(CONTROL, "confirm", index),
            lambda index: branch(chosen, "confirm", index),
            result.order,
            max_return,
        )
    alone = confirmation(
        lambda index: branch(CONTROL, "alone", index),
        lambda index: branch(BAD, "alone", index),
        order_at(head),
        max_return,
    )
    singles = {
        CONTROL: branch(CONTROL, "confirm", 0),
        GOOD: branch(GOOD, "confirm", 0),
        BAD: alone.candidate[0],
        CLONE: alone.control[0],
    }
    return Offer(screen, chosen, trial, alone, singles)


def order_at(head: Measure) -> Order:
    """The order of a confirmation without a screen: it rests on the main run."""
    return order_of({"the main run": [head]}, head.progress is not None)


def paired_verdict(control: Arm, candidate: Arm, max_return: float, gate: GateSettings = PAIRED) -> Verdict:
    """The paired gate's confirmation of two arms, seed by seed."""
    progress = [[score.measure.progress for score in arm] for arm in (control, candidate)]
    declared = any(value is not None for arm in progress for value in arm)
    return judge(
        [score.measure.sparse_return for score in control],
        [score.measure.sparse_return for score in candidate],
        progress[0] if declared else None,
        progress[1] if declared else None,
        max_return,
        gate,
    )


def usual(
    control: Score, candidates: Mapping[str, Score], max_return: float, margin: float = MARGIN, measure: str = "sparse"
) -> str | None:
    """The candidate that usual practice promotes: the best of one run each, if better than the control's run by
    ``margin``.

    ``margin`` is a share of the maximum: ``max_return``, or 1 of ``measure`` "progress". Failed runs are left out.
    """

    gate = GateSettings.model_validate({**SINGLE_RUN.settings, "single_run_margin": margin})

    def arm(score: Score) -> Arm:
        value = score.measure.progress if measure == "progress" else score.measure.sparse_return
        return [Score(Measure(sparse_return=value, progress=None))]

    base, arms = arm(control), {name: arm(score) for name, score in candidates.items()}
    largest = 1.0 if measure == "progress" else max_return
    screen = rank_screen(_measures(base), {name: _measures(each) for name, each in arms.items()}, largest, gate)
    best = screen.chosen
    if best is None or paired_verdict(base, arms[best], largest, gate).outcome != "pass":
        return None
    return best


def fours(nulls: Sequence[Trial], parents: int) -> list[tuple[Score, dict[str, Score]]]:
    """One control run and three more where nothing differs: the first look of two trials at the same parent.

    Later looks are not used: which trials have any depends on what the first ones gave.
    """
    found = []
    for start in range(0, len(nulls) - parents, 2 * parents):
        for one, other in zip(nulls[start : start + parents], nulls[start + parents :], strict=False):
            runs = [one.candidate[0], other.control[0], other.candidate[0]]
            found.append((one.control[0], dict(zip(("a", "b", "c"), runs, strict=True))))
    return found


def draw(rng: np.random.Generator, mean: float, deviation: float) -> Score:
    """A score from a normal model; it simulates trials for the same rules quickly."""
    return Score(Measure(sparse_return=float(mean + deviation * rng.standard_normal()), progress=None))


def simulate(
    trials: int, effect: float, deviation: float, base: float, max_return: float, seed: int
) -> tuple[list[Trial], list[Offer]]:
    """As many trials of each kind, drawn: the good candidate is ``effect`` better than the control, the bad one as
    much worse.
    """
    rng, nulls, offers = np.random.default_rng(seed), [], []
    effects = {CONTROL: 0.0, GOOD: effect, BAD: -effect, CLONE: 0.0}
    head = Measure(sparse_return=base, progress=None)

    def equal(index: int) -> Score:
        return draw(rng, base, deviation)

    def branch(arm: str, purpose: str, index: int) -> Score:
        return draw(rng, base + effects[arm], deviation)

    for _ in range(trials):
        nulls.append(confirmation(equal, equal, order_at(head), max_return))
        offers.append(offer(branch, head, max_return))
    return nulls, offers


def share_interval(count: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a rate."""
    found = binomtest(count, trials).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _measures(arm: Iterable[Score]) -> list[Measure]:
    return [score.measure for score in arm]

"""Trials of the gate: cases on real training, the scores of their branches, and what each rule makes of the scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import binomtest

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.gate.confirmation import Verdict, judge
from learning_signal.marl.gate.judges import SINGLE_RUN
from learning_signal.marl.gate.measure import Measure, later_half_mean
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.segment import SegmentSpec, round_up
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.settings import SessionSettings

CONTROL, CLONE, GOOD, BAD = "control", "clone", "good", "bad"
MARGIN: float = GateSettings.model_fields["single_run_margin"].default
"""The margin by which usual practice asks a run to be better, as a share of the maximum."""
AHEAD = 16
"""Segments handed to the workers before the oldest is waited for: enough that none is ever idle."""

Arm = Sequence["Score"]


@dataclass(frozen=True)
class Score:
    """One branch as a rule sees it, and what it cost."""

    measure: Measure
    """On the set of episodes that its purpose calls for."""
    env_steps: int = 0
    seconds: float = 0.0
    """Of one worker: training, evaluation and saving."""


@dataclass(frozen=True)
class Parent:
    """Where branches fork. The control continues with the shaping it was trained with."""

    name: str
    shaping: ShapingConfig
    env_steps: int
    seed: int


@dataclass(frozen=True)
class Case:
    """A task with what the gate is tried on."""

    task: str
    parents: tuple[Parent, ...]
    """Null trials use them in turn."""
    offered: int
    """The good shaping helps at the first so many parents, and is offered there."""
    good: ShapingConfig
    bad: ShapingConfig
    episodes: int | None = None
    """Episodes of each evaluation set; those of the task's family where None."""
    length: int | None = None
    """Env steps of a confirmation branch; those of a session where None."""

    @cached_property
    def run(self) -> RunSettings:
        """The default settings of the task."""
        evaluation = {} if self.episodes is None else {"episodes": self.episodes}
        return RunSettings.model_validate({"task": self.task, "evaluation": evaluation})

    @property
    def branch_steps(self) -> int:
        """Env steps of a confirmation branch, to be rounded up to whole rollouts."""
        return SessionSettings(run=self.run).branch_steps if self.length is None else self.length

    @cached_property
    def max_return(self) -> float:
        return make_task(self.task, 1).spec.max_return

    def trunk(self, parent: Parent) -> SegmentSpec:
        """The segment that trains ``parent``."""
        steps = round_up(self.run, parent.env_steps)
        return SegmentSpec(run=self.run, parent=None, shaping=parent.shaping, env_steps=steps, seed=parent.seed)

    def branch(self, parent: Parent, shaping: ShapingConfig, seed: int, share: float = 1.0) -> SegmentSpec:
        """A branch of ``share`` of the branch_steps; it is the length that a session's branch has."""
        steps = round_up(self.run, int(self.branch_steps * share))
        return SegmentSpec(run=self.run, parent=self.trunk(parent).id, shaping=shaping, env_steps=steps, seed=seed)


def shaping(*terms: tuple[str, float], beta: float = 1.0, scope: str = "team") -> ShapingConfig:
    """A shaping of these potentials and weights."""
    return ShapingConfig(
        terms=tuple(Term(potential=name, weight=weight, scope=scope) for name, weight in terms), beta=beta
    )


SPARSE = ShapingConfig.none()
COVERAGE = shaping(("coverage_distance", -1.0))
TO_A_FOOD = shaping(("team_distance", -0.1))
FORAGING = "Foraging-8x8-2p-2f-coop-v3"
CASES = {
    "spread": Case(
        task="spread",
        offered=2,
        good=COVERAGE,
        bad=shaping(("coverage_distance", 1.0)),
        parents=(
            Parent("unshaped, seed 1", SPARSE, 200_000, 1),
            Parent("unshaped, seed 2", SPARSE, 200_000, 2),
            Parent("coverage, seed 1", COVERAGE, 400_000, 1),
            Parent("coverage, seed 2", COVERAGE, 400_000, 2),
        ),
    ),
    FORAGING: Case(
        task=FORAGING,
        offered=2,
        good=TO_A_FOOD,
        bad=shaping(("team_distance", 0.1)),
        parents=(
            Parent("young, seed 1", SPARSE, 6_400, 1),
            Parent("young, seed 2", SPARSE, 6_400, 2),
            Parent("older, seed 1", SPARSE, 38_400, 1),
            Parent("older, seed 2", SPARSE, 38_400, 2),
        ),
    ),
}
"""Per task two seeds of two ages. Unshaped `spread` stays below the competence floor, so it is judged on progress;
foraging learns from the first rollouts on and is above the floor within a branch, so all of it is judged on sparse
return."""


def scores(
    pool: WorkerPool, wanted: Iterable[tuple[SegmentSpec, str]], advance: Callable[[int], None] = lambda steps: None
) -> list[Score]:
    """The score of each segment on the set of episodes named with it; one that fails measures ``None``.

    ``advance`` is told the env steps of each. ``SegmentImpossible`` where the machine or the program is at fault.
    """
    found: list[Score] = []
    waiting: deque = deque()

    def take() -> None:
        spec, name, future = waiting.popleft()
        try:
            result = future.result()
        except SegmentImpossible:
            raise
        except SegmentFailed as failure:
            found.append(Score(Measure(sparse_return=None, progress=None), failure.env_steps))
        else:
            found.append(Score(later_half_mean(result.evaluations_of(name)), result.env_steps, result.wall_seconds))
        advance(spec.env_steps)

    for spec, name in wanted:
        waiting.append((spec, name, pool.submit(spec)))
        if len(waiting) > AHEAD * pool.worker_count:
            take()
    while waiting:
        take()
    return found


def verdict(control: Arm, candidate: Arm, max_return: float, gate: GateSettings) -> Verdict:
    """The gate's confirmation of two arms, paired seed by seed."""
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


def screened(arms: Mapping[str, Arm], max_return: float, gate: GateSettings) -> str | None:
    """The candidate that the gate's screen chooses out of ``arms``, one of which is the control."""
    measures = {name: [score.measure for score in arm] for name, arm in arms.items()}
    return rank_screen(measures.pop(CONTROL), measures, max_return, gate).chosen


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

    arms = {CONTROL: arm(control), **{name: arm(score) for name, score in candidates.items()}}
    largest = 1.0 if measure == "progress" else max_return
    best = screened(arms, largest, gate)
    if best is None or verdict(arms[CONTROL], arms[best], largest, gate).outcome != "pass":
        return None
    return best


@dataclass(frozen=True)
class Null:
    """A trial in which nothing differs: two arms of one parent and one shaping, each on seeds of its own."""

    control: Arm
    clone: Arm

    @property
    def fours(self) -> list[tuple[Score, dict[str, Score]]]:
        """Disjoint sets of one control run and three more: the runs of usual practice."""
        runs = [*self.control, *self.clone]
        return [
            (first, dict(zip(("a", "b", "c"), rest, strict=True)))
            for first, *rest in (runs[start : start + 4] for start in range(0, len(runs) - 3, 4))
        ]


@dataclass(frozen=True)
class Offer:
    """A trial with three candidates (good, bad, clone); ``confirm`` holds the clone only where the screen chose it."""

    screen: Mapping[str, Arm]
    confirm: Mapping[str, Arm]

    def chosen(self, max_return: float, gate: GateSettings) -> str | None:
        """The candidate that the screen chooses."""
        return screened(self.screen, max_return, gate)

    def promoted(self, max_return: float, gate: GateSettings) -> str | None:
        """The candidate that the whole gate promotes: the chosen one, if it passes its confirmation."""
        chosen = self.chosen(max_return, gate)
        if chosen is None:
            return None
        found = verdict(self.confirm[CONTROL], self.confirm[chosen], max_return, gate)
        return chosen if found.outcome == "pass" else None

    def needed(self, max_return: float, gate: GateSettings) -> list[Score]:
        """Every branch that this decision takes: the screen's, and those of control and chosen one."""
        chosen = self.chosen(max_return, gate)
        confirmed = [] if chosen is None else [*self.confirm[CONTROL], *self.confirm[chosen]]
        return [score for arm in self.screen.values() for score in arm] + confirmed

    @property
    def fours(self) -> list[tuple[Score, dict[str, Score]]]:
        """One full run of each candidate and of the control; a clone is the control's run with the next seed."""
        control, good, bad = (self.confirm[name] for name in (CONTROL, GOOD, BAD))
        return [
            (control[index], {GOOD: good[index], BAD: bad[index], CLONE: control[index + 1]})
            for index in range(0, len(control) - 1, 2)
        ]


def draw(
    rng: np.random.Generator, effects: Mapping[str, float], count: int, deviation: float, base: float
) -> dict[str, list[Score]]:
    """Arms of ``count`` scores from a normal model: sparse return ``base`` plus the arm's effect; seeds vary by
    ``deviation``. It simulates trials for the same rules quickly.
    """
    return {
        name: [
            Score(Measure(sparse_return=float(value), progress=None))
            for value in base + effect + deviation * rng.standard_normal(count)
        ]
        for name, effect in effects.items()
    }


def simulate(
    trials: int, effect: float, deviation: float, base: float, gate: GateSettings, seed: int
) -> tuple[list[Null], list[Offer]]:
    """As many trials of each kind, drawn: the good candidate is ``effect`` better than the control, the bad one as
    much worse.
    """
    rng, nulls, offers = np.random.default_rng(seed), [], []
    effects = {CONTROL: 0.0, GOOD: effect, BAD: -effect, CLONE: 0.0}
    for _ in range(trials):
        nulls.append(Null(**draw(rng, {CONTROL: 0.0, CLONE: 0.0}, gate.confirm_seeds, deviation, base)))
        screen, confirm = (draw(rng, effects, n, deviation, base) for n in (gate.screen_seeds, gate.confirm_seeds))
        offers.append(Offer(screen, confirm))
    return nulls, offers


def share_interval(count: int, trials: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a rate."""
    found = binomtest(count, trials).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)

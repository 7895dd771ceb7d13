"""The cases of `bench.gate`: tasks, the parents that branches fork from, and the shapings that are offered there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from learning_signal.marl.gate.judge import Purpose
from learning_signal.marl.segments.segment import SegmentSpec, round_up
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.evaluation import branch_episodes, evaluated_for
from learning_signal.tools.plan.settings import SessionSettings


@dataclass(frozen=True)
class Parent:
    """Where branches fork. The control continues with the shaping it was trained with."""

    name: str
    shaping: ShapingConfig
    env_steps: int
    seed: int


@dataclass(frozen=True)
class Case:
    """A task, its parents and the shapings that are offered there."""

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
    def spec(self) -> TaskSpec:
        return make_task(self.task, 1).spec

    @property
    def max_return(self) -> float:
        return self.spec.max_return

    def trunk(self, parent: Parent) -> SegmentSpec:
        """The segment that trains ``parent``."""
        steps = round_up(self.run, parent.env_steps)
        run = evaluated_for(self.run, "main", parent.seed)
        return SegmentSpec(run=run, parent=None, shaping=parent.shaping, env_steps=steps, seed=parent.seed)

    def branch(
        self,
        parent: Parent,
        shaping: ShapingConfig,
        seed: int,
        purpose: Purpose = "confirm",
        share: float = 1.0,
        partner: int | None = None,
    ) -> SegmentSpec:
        """A branch of ``share`` of the branch_steps, evaluated as a session evaluates it.

        Its held-out episodes are its own, or those of the branch with the seed ``partner``.
        """
        steps = round_up(self.run, int(self.branch_steps * share))
        held_out = branch_episodes(self.run, self.branch_steps, self.spec)
        run = evaluated_for(self.run, purpose, seed if partner is None else partner, held_out)
        return SegmentSpec(run=run, parent=self.trunk(parent).id, shaping=shaping, env_steps=steps, seed=seed)


def shaping(*terms: tuple[str, float], beta: float = 1.0, scope: str = "team") -> ShapingConfig:
    """A shaping of these potentials and weights."""
    return ShapingConfig(
        terms=tuple(Term(potential=name, weight=weight, scope=scope) for name, weight in terms), beta=beta
    )


SPARSE = ShapingConfig.none()
COVERAGE = shaping(("coverage_distance", -1.0))
TO_A_FOOD = shaping(("team_distance", -0.1))
DELIVERING = (("pickup_distance", -0.05), ("delivery_distance", -0.1), ("return_distance", -0.03))
FORAGING, WAREHOUSE = "Foraging-8x8-2p-2f-coop-v3", "rware-tiny-2ag-easy-v2"
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
    WAREHOUSE: Case(
        task=WAREHOUSE,
        offered=2,
        good=shaping(*DELIVERING, ("holds_unrequested", -0.5), scope="agent"),
        bad=shaping(*((name, -weight) for name, weight in DELIVERING), ("holds_unrequested", 0.5), scope="agent"),
        parents=(Parent("unshaped, seed 1", SPARSE, 150_000, 1), Parent("unshaped, seed 2", SPARSE, 150_000, 2)),
    ),
}
"""Two seeds per task, at two ages except in the warehouse. Unshaped `spread` hardly ever succeeds, so it is judged on
progress, and shaped on sparse return; foraging learns from the first rollouts on. In the warehouse the control hardly
ever delivers, and the good shaping raises both measures."""

"""Trains several segments in one process, stacked: branches that differ in weights, shaping and seeds only.

Each gives what ``run_segment`` gives, on the CPU to the bit, and is stored under its own id: who was trained with whom
leaves no trace but the seconds, which are each branch's share of the whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from marl.checkpoint import Position, save_checkpoint
from marl.evaluation import Evaluator, NotFinite, evaluation_environments
from marl.learners import Diverged, Timings, make_learner
from marl.learners.networks import flushed_denormals
from marl.learners.ppo import PolicyGradientLearner
from marl.learners.rollout import Collector
from marl.learners.stacked_ppo import StackedLearners
from marl.learners.stacked_rollout import StackedCollector
from marl.metrics import METRICS
from marl.randomness import derive
from marl.records import BehaviourRecord, Evaluation
from marl.segment import (
    Progress,
    SegmentFailed,
    SegmentResult,
    SegmentSpec,
    SegmentStopped,
    SegmentStore,
    failure_of,
    rollout_size,
)
from marl.shaping import Potential, ShapingError, check
from marl.stacking import can_stack
from marl.tasks import make_task as make_known_task
from marl.tasks.base import TaskSpec
from marl.training import (
    MakeTask,
    _evaluation_points,
    _load_parent,
    _out_of_memory,
    _refuse_length,
    refuse_missing_device,
    run_segment,
)

Outcome = SegmentResult | SegmentFailed


@dataclass
class _Branch:
    """One segment on its way."""

    spec: SegmentSpec
    learner: PolicyGradientLearner
    start: Position
    potential: Potential | None
    rows: list[dict[str, float | None]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    behaviour: BehaviourRecord | None = None


def run_stacked(
    specs: Sequence[SegmentSpec],
    store: SegmentStore,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    make_task: MakeTask = make_known_task,
) -> list[Outcome]:
    """Train and store ``specs`` as ``run_segment`` would one by one: a result or a failure of each.

    A branch that fails does not hurt the others. ``progress`` is told about every update of every branch; ``stop`` is
    asked before every update and raises ``SegmentStopped`` for all. What cannot be stacked is trained alone, in turn.
    """
    report = progress or (lambda latest: None)
    missing = list({spec.id: spec for spec in specs if not store.has(spec.id)}.values())
    outcomes: dict[str, Outcome] = {}
    if can_stack(missing) and not make_task(missing[0].run.task, 1).spec.agents_leave:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            outcomes = {
                spec.id: outcome
                for spec, outcome in zip(missing, _train(missing, store, report, stop, make_task), strict=True)
            }
        finally:
            torch.set_num_threads(threads)
    return [outcomes.get(spec.id) or _alone(spec, store, report, stop, make_task) for spec in specs]


def _alone(
    spec: SegmentSpec, store: SegmentStore, progress: Callable[[Progress], None], stop: Callable[[], bool] | None,
    make_task: MakeTask,
) -> Outcome:  # fmt: skip
    try:
        return run_segment(spec, store, progress, stop, make_task)
    except (SegmentFailed, ShapingError) as error:
        return failure_of(error, spec.id)


def _train(
    specs: Sequence[SegmentSpec], store: SegmentStore, progress: Callable[[Progress], None],
    stop: Callable[[], bool] | None, make_task: MakeTask,
) -> list[Outcome]:  # fmt: skip
    """Train ``specs`` together; what ends one branch is its own outcome, what the machine refuses is that of all."""
    run, timings, began = specs[0].run, Timings(), time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    done = 0
    try:
        refuse_missing_device(run.learner.device)
        evaluator = Evaluator(run, make_task(run.task, evaluation_environments(run)))
        live = []
        for spec in specs:
            try:
                live.append(_begin(spec, store, evaluator.task.spec))
            except (SegmentFailed, ShapingError) as error:
                outcomes[spec.id] = failure_of(error, spec.id)
        size = rollout_size(run, evaluator.task.spec)
        updates = specs[0].env_steps // size
        due = _evaluation_points(updates, run.evaluation.points)
        stack = _Stack(live, make_task) if live else None
        for update in range(1, updates + 1):
            if not live:
                break
            if stop is not None and stop():
                raise SegmentStopped(
                    f"{len(live)} stacked segments were stopped after {update - 1} of {updates} updates."
                )
            failed = stack.advance(update, timings)
            done = update * size
            if update in due:
                failed |= _evaluate(live, evaluator, done, timings, failed, last=update == updates)
            if failed:
                outcomes |= failed
                live = [branch for branch in live if branch.spec.id not in failed]
                stack = _Stack(live, make_task) if live else None
            for branch in live:
                latest = branch.rows[-1]
                progress(
                    Progress(branch.spec.id, done, branch.spec.env_steps, latest["sparse_return"], latest["progress"])
                )
        for branch in live:
            try:
                wall = (time.perf_counter() - began) / len(specs)
                outcomes[branch.spec.id] = _store(branch, store, updates, wall, timings, len(specs))
            except OSError as error:
                outcomes[branch.spec.id] = failure_of(error, branch.spec.id, done)
    except (OSError, MemoryError, ImportError, SegmentFailed) as error:
        _fail_all(specs, outcomes, error, done)
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        _fail_all(specs, outcomes, MemoryError(str(error)), done)
    return [outcomes[spec.id] for spec in specs]


def _fail_all(specs: Sequence[SegmentSpec], outcomes: dict[str, Outcome], error: Exception, done: int) -> None:
    """What has no outcome yet ends by ``error``."""
    for spec in specs:
        outcomes.setdefault(spec.id, failure_of(error, spec.id, done))


def _begin(spec: SegmentSpec, store: SegmentStore, task: TaskSpec) -> _Branch:
    """A branch before its first update; raises what ``run_segment`` would."""
    potential = None if spec.shaping.is_none else check(spec.shaping, task)
    _refuse_length(spec, task)
    try:
        learner = make_learner(task, spec.run.learner, spec.seed)
    except ValueError as error:
        raise SegmentFailed(str(error)) from error
    return _Branch(spec, learner, _load_parent(spec, store, learner), potential)


class _Stack:
    """Branches that train together until one of them ends."""

    def __init__(self, branches: Sequence[_Branch], make_task: MakeTask) -> None:
        run = branches[0].spec.run
        self.branches = list(branches)
        task = make_task(run.task, run.learner.environments * len(branches))
        self.collector = StackedCollector(task, run.learner, [branch.potential for branch in branches])
        self.learners = StackedLearners([branch.learner for branch in branches])

    def advance(self, update: int, timings: Timings) -> dict[str, SegmentFailed]:
        """One rollout and one update of every branch, the ``update``-th; why some ended there, by id."""
        size, specs = self.collector.size, [branch.spec for branch in self.branches]
        before = [
            Position(branch.start.env_steps + (update - 1) * size, branch.start.updates + update - 1)
            for branch in self.branches
        ]
        generators = [
            np.random.Generator(np.random.PCG64(derive(spec.seed, "update", position.updates)))
            for spec, position in zip(specs, before, strict=True)
        ]
        self.collector.collect(
            self.learners.policy(),
            [position.env_steps for position in before],
            [derive(spec.seed, "train", position.updates) for spec, position in zip(specs, before, strict=True)],
            generators,
            timings,
        )
        now = time.perf_counter()
        with flushed_denormals():
            learned = self.learners.update([one.rollout for one in self.collector.collectors], generators)
        timings.update += time.perf_counter() - now
        failed = {}
        for branch, collector, metrics in zip(self.branches, self.collector.collectors, learned, strict=True):
            try:
                if isinstance(metrics, Diverged):
                    raise metrics
                branch.rows.append(_row(branch, collector, update * size, metrics))
            except Diverged as error:
                failed[branch.spec.id] = SegmentFailed(
                    f"Training diverged: {error} at env step {branch.start.env_steps + update * size}; use a smaller "
                    "learning rate or a weaker shaping.",
                    env_steps=update * size,
                )
        return failed


def _row(
    branch: _Branch, collector: Collector, done: int, learned: dict[str, float | None]
) -> dict[str, float | None]:
    """The metrics of an update as ``run_segment`` writes them; ``Diverged`` where the episodes' are not finite."""
    after, shaping = branch.start.env_steps + done, branch.spec.shaping
    played = collector.rollout.episode_metrics()
    for name, value in played.items():
        if value is not None and not math.isfinite(value):
            found = "NaN" if math.isnan(value) else "infinite"
            raise Diverged(f"the {name.replace('_', ' ')} became {found}")
    beta = 0.0 if shaping.is_none else float(shaping.beta_at(after))
    return dict.fromkeys(METRICS) | {"env_steps": after, **played, "beta": beta, **learned}


def _evaluate(
    branches: Sequence[_Branch], evaluator: Evaluator, done: int, timings: Timings, failed: Collection[str], *,
    last: bool,
) -> dict[str, SegmentFailed]:  # fmt: skip
    """Evaluate the branches that have not ``failed``, in turn; why some end here, by id."""
    now, ended = time.perf_counter(), {}
    for branch in branches:
        if branch.spec.id in failed:
            continue
        try:
            results, branch.behaviour = evaluator.evaluate(
                branch.learner.policy, branch.start.env_steps + done, record=last
            )
            branch.evaluations += results
        except NotFinite as error:
            ended[branch.spec.id] = SegmentFailed(f"The segment gave no result: {error}.", env_steps=done)
    timings.evaluation += time.perf_counter() - now
    return ended


def _store(
    branch: _Branch, store: SegmentStore, updates: int, wall: float, timings: Timings, branches: int
) -> SegmentResult:
    """Write checkpoint, behaviour and result as ``run_segment`` does; seconds are the branch's share."""
    spec, start = branch.spec, branch.start
    end = Position(start.env_steps + spec.env_steps, start.updates + updates)
    spent = {kind: seconds / branches for kind, seconds in asdict(timings).items()}
    with store.writing(spec.id) as folder:
        save_checkpoint(folder / "checkpoint.pt", branch.learner, end)
        branch.behaviour.save(folder / "behaviour.npz")
        result = SegmentResult(
            id=spec.id,
            parent=spec.parent,
            start_env_steps=start.env_steps,
            end_env_steps=end.env_steps,
            env_steps=spec.env_steps,
            updates=tuple(branch.rows),
            evaluations=tuple(branch.evaluations),
            wall_seconds=wall,
            timings=spent | {"rest": wall - sum(spent.values())},
        )
        (folder / "result.json").write_text(result.model_dump_json())
    return result
